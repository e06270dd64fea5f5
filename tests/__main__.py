"""`python3 -m tests [pytest options]`: installs what the tests need, checks style and types, runs every test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from glob import glob
from pathlib import Path

from server.bootstrap import ENVIRONMENT, ROOT, SetupFailed, ensure_environment, say, step

# program a test runs -> the Debian package that brings it
PROGRAMS = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "firefox-esr": "firefox-esr",
    "ffmpeg": "ffmpeg",  # Firefox decodes H264 with its libraries
    "pulseaudio": "pulseaudio",  # without a sound card Firefox plays no Web Audio
    "node": "nodejs",
    "npm": "npm",
    "turnserver": "coturn",
    "pg_ctlcluster": "postgresql",
    "janus": "janus",  # the server that the benchmarks compare with
}
# what else a test needs of the machine -> the Debian package that brings it
FILES = {
    "/usr/lib/python3/dist-packages/gi/overrides/Gst.py": "python3-gst-1.0",
    "/usr/lib/*/girepository-1.0/GstWebRTC-1.0.typelib": "gir1.2-gst-plugins-bad-1.0",
    "/usr/lib/*/gstreamer-1.0/libgstnice.so": "gstreamer1.0-nice",
    "/usr/lib/*/gstreamer-1.0/libgstvpx.so": "gstreamer1.0-plugins-good",
    "/usr/lib/*/gstreamer-1.0/libgstwebrtc.so": "gstreamer1.0-plugins-bad",
}
NODE_PACKAGES = ROOT / "tests" / "browser"  # has a lock file; `npm ci` installs what it says
COMPILED_FIRST = ("media.io.fanout", "media.moq.kernel.calls")
COMPILED_LAST = ("tests.media.turns",)  # the forwarding kernel, which takes longest
CHECKED = ("server", "signalling", "media", "bench", "tests")
# Needs nothing of what is compiled last, and is run meanwhile.
BESIDE_COMPILING = ("moq",)
# All else runs side by side, file by file, but for these. Tests in browsers fill a core each.
IN_BROWSERS = ("browser",)
# What holds sound, picture, or a cut to its time, and leaves a core idle: two at a time, the longest first.
IN_PAIRS = (
    "clients/test_downlink.py",
    "clients",
    "bench/test_impairment.py",
    "bench/test_receiver.py",
    "bridge/test_judging.py",
    "bridge/test_moqrs.py",
)
# The same with what Chromium measures or encodes in layers, or with many clients, which take all that there is.
ALONE = (
    "clients/test_best_picture.py",
    "clients/test_chromium_layers.py",
    "clients/test_chromium_networks.py",
    "clients/test_losses.py",
    "matrix",
)
CORES = os.cpu_count() or 1


def main() -> int:
    """Return 0 when every check and every test passed."""
    # Where this is set, each of the hundreds of processes that tests start would compile all sources again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    beside = () if sys.argv[1:] else BESIDE_COMPILING
    try:
        failed = set_up(beside)
    except SetupFailed as failure:
        sys.stderr.write(f"tests: {failure}\n")
        return 1
    if sys.argv[1:]:
        return run_pytest(*sys.argv[1:])
    others = [f"--ignore=tests/{path}" for path in (*BESIDE_COMPILING, *IN_BROWSERS, *IN_PAIRS, *ALONE)]
    # More processes than cores: half of the time such a test waits for somebody.
    failed = run_side_by_side(2 * CORES, "tests", *others) or failed
    failed = run_side_by_side(CORES, *tests_in(IN_BROWSERS)) or failed
    but = [f"--ignore=tests/{path}" for path in ALONE]
    failed = run_side_by_side(min(2, CORES), *tests_in(IN_PAIRS), *but) or failed
    return run_pytest(*tests_in(ALONE)) or failed


def tests_in(paths: tuple[str, ...]) -> list[str]:
    """Return the paths as pytest takes them."""
    return [f"tests/{path}" for path in paths]


def run_side_by_side(processes: int, *arguments: str) -> int:
    """Run tests file by file, in so many processes; returns pytest's code."""
    return run_pytest(f"--numprocesses={processes}", "--dist=loadfile", "--no-loadscope-reorder", *arguments)


def run_pytest(*arguments: str) -> int:
    """Run pytest to its end; returns its code."""
    return subprocess.run(
        [str(ENVIRONMENT / "bin" / "pytest"), "--durations=20", *arguments], cwd=ROOT, check=False
    ).returncode


def ensure_programs() -> None:
    """Install missing Debian packages when root; otherwise fail, saying exactly what to install."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    missing += [package for pattern, package in FILES.items() if not glob(pattern)]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise SetupFailed(f"the tests need {', '.join(missing)}; on Debian, as root: {' '.join(command)}")
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    step("reading Debian's package lists", ["apt-get", "update", "-qq"])
    step(f"installing {' '.join(missing)}", command)


def ensure_node_packages() -> None:
    """Install the locked npm packages where what is there does not match the lock file."""
    lock, stamp = NODE_PACKAGES / "package-lock.json", NODE_PACKAGES / "node_modules" / ".built-from"
    if stamp.exists() and stamp.read_bytes() == lock.read_bytes():
        return
    step("installing the locked npm packages", ["npm", "ci", "--silent", "--no-audit", "--no-fund"], cwd=NODE_PACKAGES)
    stamp.write_bytes(lock.read_bytes())


def set_up(beside: tuple[str, ...]) -> int:
    """Install, check and compile what the tests need, and run some meanwhile; returns pytest's code of these.

    Raises SetupFailed where something complains.
    """
    with ThreadPoolExecutor(2) as lanes:
        environment = lanes.submit(ensure_environment)
        # Compiling is one long step on one core: all else is done beside it.
        first = lanes.submit(lambda: (environment.result(), compile_kernels(COMPILED_FIRST)))
        last = lanes.submit(lambda: (first.result(), compile_kernels(COMPILED_LAST)))
        ensure_programs()
        ensure_node_packages()
        environment.result()
        check()
        first.result()
        say("Running the tests ...")
        code = run_pytest(*tests_in(beside)) if beside else 0
        last.result()
    return code


def compile_kernels(modules: tuple[str, ...]) -> None:
    """Compile once what several processes would else compile each."""
    command = [str(ENVIRONMENT / "bin" / "python"), "-c", f"import {', '.join(modules)}"]
    step(f"compiling {', '.join(modules)}", command)


def check() -> None:
    """Run ruff, mypy and flake8-async; raises SetupFailed where one complains."""
    programs = ENVIRONMENT / "bin"
    modules = [path for folder in CHECKED for path in sorted(Path(ROOT, folder).rglob("*.py"))]
    waiting = [str(module) for module in modules if re.search(r"\basync |\btrio\b", module.read_text())]
    step("ruff check", [str(programs / "ruff"), "check", "--quiet", *CHECKED])
    step("ruff format", [str(programs / "ruff"), "format", "--check", "--quiet", *CHECKED])
    step("mypy", [str(programs / "mypy")])
    step("flake8-async", [str(programs / "python"), "-m", "tests.async_rules", *waiting])


if __name__ == "__main__":
    sys.exit(main())
