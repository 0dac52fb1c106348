"""The processor of this machine: its name and the instruction sets that decide how fast networks run on it."""

import platform
from pathlib import Path

INFO = Path("/proc/cpuinfo")
# Wide vectors, products of 8-bit and 16-bit numbers, and matrix units, of x86 and of ARM, as Linux names them.
DECISIVE = (
    *("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8"),
    *("asimd", "asimddp", "i8mm", "bf16", "sve", "sve2", "sme"),
)


def processor_name() -> str:
    """Returns the name of the processor. `platform` knows only the architecture on Linux."""
    return _field("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Returns those of `DECISIVE` that the processor has; [] where Linux does not tell."""
    flags = {*(_field("flags") or _field("Features")).split()}
    return [name for name in DECISIVE if name in flags]


def _field(name: str) -> str:
    """Returns the value of the first line of `INFO` that starts with a name; "" if there is none."""
    lines = INFO.read_text().splitlines() if INFO.is_file() else []
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() == name), "")
