"""Names that TensorRT's Python bindings offer, by version: what cannot be installed here is compared with these.

8.5.2 and 10.16: as NVIDIA's open-source bindings define them (python/src/infer and python/src/parsers of
github.com/NVIDIA/TensorRT, release/8.5 and release/10). 11.4: those of 10 without the ones that the migration guide
"Removed Python APIs and Replacements" of 11.4 lists. Classes that are not used here are left out, and of what 10 and
11 have added most.
"""

Names = dict[str, frozenset[str]]


def _names(**classes: str) -> Names:
    return {name: frozenset(listed.split()) for name, listed in classes.items()}


def _changed(base: Names, added: Names, removed: Names) -> Names:
    return {
        name: (names | added.get(name, frozenset())) - removed.get(name, frozenset())
        for name, names in {**added, **base}.items()
    }


V8_5_2 = _names(
    Builder="""build_engine build_serialized_network create_builder_config create_network create_optimization_profile
        error_recorder gpu_allocator is_network_supported logger max_DLA_batch_size max_batch_size max_threads
        num_DLA_cores platform_has_fast_fp16 platform_has_fast_int8 platform_has_tf32 reset""",
    BuilderFlag="""DEBUG DIRECT_IO DISABLE_TIMING_CACHE ENABLE_TACTIC_HEURISTIC FP16 GPU_FALLBACK INT8
        OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS REFIT REJECT_EMPTY_ALGORITHMS SAFETY_SCOPE
        SPARSE_WEIGHTS STRICT_TYPES TF32""",
    DataType="BOOL FLOAT HALF INT32 INT8 UINT8",
    EngineInspector="error_recorder execution_context get_engine_information get_layer_information",
    IBuilderConfig="""DLA_core add_optimization_profile algorithm_selector avg_timing_iterations can_run_on_DLA
        clear_flag clear_quantization_flag create_timing_cache default_device_type engine_capability flags
        get_calibration_profile get_device_type get_flag get_memory_pool_limit get_preview_feature
        get_quantization_flag get_tactic_sources get_timing_cache int8_calibrator is_device_type_set
        max_workspace_size min_timing_iterations num_optimization_profiles profile_stream profiling_verbosity
        quantization_flags reset reset_device_type set_calibration_profile set_device_type set_flag
        set_memory_pool_limit set_preview_feature set_quantization_flag set_tactic_sources set_timing_cache""",
    ICudaEngine="""binding_is_input create_engine_inspector create_execution_context
        create_execution_context_without_device_memory device_memory_size engine_capability error_recorder
        get_binding_bytes_per_component get_binding_components_per_element get_binding_dtype get_binding_format
        get_binding_format_desc get_binding_index get_binding_name get_binding_shape get_binding_vectorized_dim
        get_location get_profile_shape get_profile_shape_input get_tensor_bytes_per_component
        get_tensor_components_per_element get_tensor_dtype get_tensor_format get_tensor_format_desc
        get_tensor_location get_tensor_mode get_tensor_name get_tensor_profile_shape get_tensor_shape
        get_tensor_vectorized_dim has_implicit_batch_dimension is_execution_binding is_shape_binding
        is_shape_inference_io max_batch_size name num_bindings num_io_tensors num_layers num_optimization_profiles
        profiling_verbosity refittable serialize tactic_sources""",
    IExecutionContext="""active_optimization_profile all_binding_shapes_specified all_shape_inputs_specified debug_sync
        device_memory engine enqueue_emits_profile error_recorder execute execute_async execute_async_v2
        execute_async_v3 execute_v2 get_binding_shape get_input_consumed_event get_max_output_size
        get_output_allocator get_shape get_strides get_tensor_address get_tensor_shape get_tensor_strides infer_shapes
        name nvtx_verbosity persistent_cache_limit profiler report_to_profiler set_binding_shape
        set_input_consumed_event set_input_shape set_optimization_profile_async set_output_allocator set_shape_input
        set_tensor_address temporary_allocator""",
    IHostMemory="dtype nbytes",
    ILayer="""get_input get_output get_output_type name num_inputs num_outputs output_type_is_set precision
        precision_is_set reset_output_type reset_precision set_input set_output_type type""",
    ILogger="ERROR INFO INTERNAL_ERROR Severity VERBOSE WARNING log",
    INetworkDefinition="get_input get_layer get_output mark_output name num_inputs num_layers num_outputs",
    IOptimizationProfile="extra_memory_target get_shape get_shape_input set_shape set_shape_input",
    ITensor="dtype is_network_input is_network_output is_shape_tensor name shape",
    ITimingCache="combine reset serialize",
    LayerInformationFormat="JSON ONELINE",
    MemoryPoolType="DLA_GLOBAL_DRAM DLA_LOCAL_DRAM DLA_MANAGED_SRAM WORKSPACE",
    NetworkDefinitionCreationFlag="EXPLICIT_BATCH EXPLICIT_PRECISION",
    OnnxParser="""clear_errors get_error num_errors parse parse_from_file parse_with_weight_descriptors supports_model
        supports_operator""",
    ParserError="code desc file func line node",
    ProfilingVerbosity="DEFAULT DETAILED LAYER_NAMES_ONLY NONE VERBOSE",
    Runtime="DLA_core deserialize_cuda_engine error_recorder gpu_allocator logger max_threads num_DLA_cores",
    TensorIOMode="INPUT NONE OUTPUT",
)

V10_16 = _changed(
    V8_5_2,
    added=_names(
        Builder="build_engine_with_config build_serialized_network_to_stream get_plugin_registry",
        BuilderFlag="BF16 FP8 INT4 VERSION_COMPATIBLE",
        DataType="BF16 FP8 INT4 INT64",
        IBuilderConfig="builder_optimization_level hardware_compatibility_level max_aux_streams progress_monitor",
        ICudaEngine="create_runtime_config device_memory_size_v2 get_tensor_profile_values",
        IExecutionContext="get_runtime_config set_aux_streams set_device_memory",
        ILayer="metadata",
        IProgressMonitor="phase_finish phase_start step_complete",
        NetworkDefinitionCreationFlag="STRONGLY_TYPED",
        OnnxParser="get_flag is_subgraph_supported num_subgraphs set_flag supports_model_v2",
        ParserError="local_function_stack node_name node_operator",
    ),
    removed=_names(
        Builder="build_engine max_batch_size",
        BuilderFlag="ENABLE_TACTIC_HEURISTIC STRICT_TYPES",
        IBuilderConfig="max_workspace_size min_timing_iterations",
        ICudaEngine="""binding_is_input get_binding_bytes_per_component get_binding_components_per_element
            get_binding_dtype get_binding_format get_binding_format_desc get_binding_index get_binding_name
            get_binding_shape get_binding_vectorized_dim get_location get_profile_shape get_profile_shape_input
            is_execution_binding is_shape_binding max_batch_size num_bindings""",
        IExecutionContext="""execute execute_async execute_async_v2 get_binding_shape get_shape get_strides
            set_binding_shape set_shape_input""",
        NetworkDefinitionCreationFlag="EXPLICIT_PRECISION",
        ProfilingVerbosity="DEFAULT VERBOSE",
    ),
)

V11_4 = _changed(
    V10_16,
    added={},
    removed=_names(
        Builder="platform_has_fast_fp16 platform_has_fast_int8",
        BuilderFlag="BF16 DIRECT_IO FP16 FP8 INT4 INT8 OBEY_PRECISION_CONSTRAINTS PREFER_PRECISION_CONSTRAINTS",
        IBuilderConfig="""algorithm_selector clear_quantization_flag get_calibration_profile get_quantization_flag
            int8_calibrator quantization_flags set_calibration_profile set_quantization_flag""",
        ICudaEngine="create_execution_context_without_device_memory device_memory_size has_implicit_batch_dimension",
        ILayer="output_type_is_set precision precision_is_set reset_output_type reset_precision set_output_type",
        NetworkDefinitionCreationFlag="EXPLICIT_BATCH",
        OnnxParser="parse_with_weight_descriptors supports_model",
    ),
)

VERSIONS = {"8.5.2": V8_5_2, "10.16": V10_16, "11.4": V11_4}
