#!/usr/bin/env bash
# Compiles TensorRT's Python bindings, from NVIDIA's open source, for the Python that is first on the PATH.
#
#   deploy/tensorrt-bindings.sh SOURCE OUT
#
# SOURCE is a checkout of github.com/NVIDIA/TensorRT at the tag of the installed TensorRT, with its submodule
# parsers/onnx; OUT is the folder that the wheel is written to. Needs g++, make, TensorRT's and CUDA's headers and
# libraries, and in that Python what requirements-l4t-build.in names. Takes the layout of TensorRT 8.5 and of 10.
set -euo pipefail

source=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
machine=$(uname -m)
libraries=${TENSORRT_LIBRARIES:-/usr/lib/$machine-linux-gnu}
headers=${TENSORRT_HEADERS:-/usr/include/$machine-linux-gnu}
cuda=${CUDA_ROOT:-/usr/local/cuda}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

# MAJOR.MINOR.PATCH.BUILD, as a NvInferVersion.h defines it.
version_of() {
    awk '$2 ~ /^NV_TENSORRT_(MAJOR|MINOR|PATCH|BUILD)$/ { printf "%s%s", dot, $3; dot = "." }' "$1/NvInferVersion.h"
}

version=$(version_of "$source/include")
installed=$(version_of "$headers")
if [ "${version%.*}" != "${installed%.*}" ]; then
    echo "The source is TensorRT $version and the installed one is $installed; check out the tag of the latter." >&2
    exit 2
fi

python_include=$(python -c 'import sysconfig; print(sysconfig.get_path("include"))')
read -r major minor < <(python -c 'import sys; print(*sys.version_info[:2])')

# Two at a time: each of the ten files takes up to a gigabyte to compile, and the smallest device has eight.
cmake -S "$source/python" -B "$build/library" \
    -DCMAKE_BUILD_TYPE=Release \
    -DCPP_STANDARD=14 \
    -DTARGET="$machine" \
    -DEXT_PATH="$build" \
    -DPYTHON_MAJOR_VERSION="$major" \
    -DPYTHON_MINOR_VERSION="$minor" \
    -DPY_INCLUDE="$python_include" \
    -DPY_CONFIG_INCLUDE="$python_include" \
    -DPYBIND11_DIR="$(python -c 'import pybind11; print(pybind11.get_include())')" \
    -DCUDA_INCLUDE_DIRS="$cuda/include" \
    -DTENSORRT_MODULE=tensorrt \
    -DTENSORRT_ROOT="$source" \
    -DTENSORRT_BUILD="$libraries"
cmake --build "$build/library" --parallel 2

packaging=$source/python/packaging
if [ -d "$packaging/bindings_wheel" ]; then
    packaging=$packaging/bindings_wheel
fi
cp -r "$packaging" "$build/package"
find "$build/package" -type f -exec sed -i \
    -e "s/##TENSORRT_MODULE##/tensorrt/g" \
    -e "s/##TENSORRT_\(PYTHON_\)\?VERSION##/$version/g" \
    -e "s/##TENSORRT_MAJMINPATCH##/${version%.*}/g" {} +
cp "$build/library/tensorrt/tensorrt.so" "$build/package/tensorrt/"
cd "$build/package"
python setup.py --quiet bdist_wheel --dist-dir "$out" --python-tag "cp$major$minor" --plat-name "linux_$machine"
