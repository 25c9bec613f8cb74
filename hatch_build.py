"""Compile the protocol definitions before the package is built or installed in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompileProtos(BuildHookInterface):
    """Turn every ``omniloop/**/*.proto`` into ``_pb2.py`` and ``_pb2.pyi`` beside it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile them all; raises if one cannot be."""
        import grpc_tools
        from grpc_tools import protoc

        root = Path(self.root)
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        for proto in sorted((root / "omniloop").rglob("*.proto")):
            arguments = [
                "protoc",
                f"-I{root}",
                f"-I{well_known}",
                f"--python_out={root}",
                f"--pyi_out={root}",
                str(proto),
            ]
            if protoc.main(arguments) != 0:
                raise RuntimeError(f"protoc failed on {proto}")
