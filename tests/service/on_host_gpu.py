"""The service, and the compiler's process that it starts, on the GPU made of a process's own memory.

    python -m tests.service.on_host_gpu BEHAVIOUR [flag of the service ...]

BEHAVIOUR is of the compiler: `spoils` makes a plan that computes something else; `waits=FILE` logs and waits until
the file is there.
"""

import sys
import time
from pathlib import Path

from engines import compilation, compile, compile_process
from engines.backends import tensorrt
from engines.backends.tensorrt_compiler import Compiled, Source, Target
from service import __main__ as service
from tests.engines.host_gpu import HostCompiler, HostDevice, HostLibrary, weaker


def install() -> None:
    """A machine with a GPU and TensorRT 8.5."""
    for module in (tensorrt, compilation):
        module.why_no_gpu = lambda: None
        module.Device = HostDevice
        module.Library = lambda *_: HostLibrary()
    tensorrt.module_name = lambda _: "tensorrt"


class BehavingCompiler(HostCompiler):
    def __init__(self, behaviour: str) -> None:
        super().__init__()
        kind, _, file = behaviour.partition("=")
        self._file = Path(file) if kind == "waits" else None
        if kind == "spoils":
            self.spoil = weaker

    def __call__(
        self, library: object, source: Source, target: Target, timing_cache: bytes, progress: object
    ) -> Compiled:
        print("the compiler's own words\nand more of them", file=sys.stderr, flush=True)
        progress(0.25)  # type: ignore[operator]
        while self._file is not None and not self._file.exists():
            time.sleep(0.02)
        return super().__call__(library, source, target, timing_cache, progress)


if __name__ == "__main__":
    install()
    name, behaviour, *arguments = sys.argv
    if arguments[0] == "compile":
        compilation.compile_source = BehavingCompiler(behaviour)
        sys.exit(compile.main(arguments[1:]))
    compile_process.COMMAND = (sys.executable, "-m", "tests.service.on_host_gpu", behaviour, "compile")
    sys.exit(service.main(arguments))
