"""Measures the memory use of the service with /proc."""

import pathlib

from service import Service


def status_value(service: Service, name: str) -> int:
    """Returns a value of /proc/PID/status in bytes."""
    text = pathlib.Path(f"/proc/{service.process.pid}/status").read_text()
    [line] = [line for line in text.splitlines() if line.startswith(f"{name}:")]
    return int(line.split()[1]) * 1024


def reset_peak(service: Service) -> int:
    """Resets the peak of the resident memory to its current value, and returns that."""
    pathlib.Path(f"/proc/{service.process.pid}/clear_refs").write_text("5")
    return status_value(service, "VmHWM")


def peak(service: Service) -> int:
    """Returns the largest resident memory since `reset_peak`."""
    return status_value(service, "VmHWM")


def peak_of(service: Service, work) -> int:
    """Returns by how many bytes the work raised the peak of the resident memory."""
    idle = reset_peak(service)
    work()
    return peak(service) - idle
