"""A real SLURM of one node on this machine, from Debian's packages, in a folder of its own (root only)."""

import getpass
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CryptoType=crypto/munge
SlurmctldPort={controller}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=2
MinJobAge=600
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=1000 State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def unavailable():
    """Why there can be no SLURM here; None where there can. Installs the packages."""
    if getpass.getuser() != "root":
        return "installing and starting SLURM needs root"
    if not programs():
        if not shutil.which("apt-get"):
            return "installing SLURM needs apt"
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for command in (["update"], ["install", "-y", "--no-install-recommends", "slurm-wlm", "munge"]):
            done = subprocess.run(["apt-get", *command], env=quiet, capture_output=True, text=True)
        if done.returncode or not programs():
            return f"apt-get cannot install slurm-wlm and munge: {done.stderr.strip().splitlines()[-1:]}"
    return None


def programs():
    return all(map(shutil.which, ("munged", "slurmctld", "slurmd", "sbatch")))


@contextmanager
def slurm(cpus=2):
    """Start the daemons, set SLURM_CONF for this process, stop them at the end. Yields their folder."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    folder.chmod(0o755)
    before, started = os.environ.get("SLURM_CONF"), []
    try:
        start_munge(folder, started)
        for name in ("state", "spool"):
            (folder / name).mkdir()
        host, (controller, daemon) = socket.gethostname().split(".")[0], free_ports(2)
        text = CONFIGURATION.format(host=host, folder=folder, controller=controller, daemon=daemon, cpus=cpus)
        (folder / "slurm.conf").write_text(text)
        os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
        for name, options in (("slurmctld", ["-D", "-i"]), ("slurmd", ["-D", "-N", host])):
            with (folder / f"{name}.out").open("w") as out:
                started.append(subprocess.Popen([name, *options], stdout=out, stderr=out))
        wait_until(lambda: "idle" in ask("sinfo", "--noheader", "-o", "%T"), folder, started)
        yield folder
    finally:
        if started[1:]:
            subprocess.run(["scancel", "--me"], capture_output=True)
            time.sleep(1)
        for process in reversed(started):
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
        os.environ.pop("SLURM_CONF", None)
        if before is not None:
            os.environ["SLURM_CONF"] = before
        shutil.rmtree(folder, ignore_errors=True)


def start_munge(folder, started):
    """munged as user munge, with a key and a socket of its own."""
    own = folder / "munge"
    own.mkdir(mode=0o755)
    (own / "key").write_bytes(os.urandom(1024))
    (own / "key").chmod(0o400)
    for path in (own, own / "key"):
        shutil.chown(path, "munge", "munge")
    options = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    command = ["munged", "--foreground", *(f"--{option}={own / name}" for option, name in options.items())]
    with (folder / "munged.out").open("w") as out:
        started.append(subprocess.Popen(command, stdout=out, stderr=out, user="munge", group="munge", extra_groups=[]))
    wait_until((own / "socket").exists, folder, started)


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def ask(*command):
    return subprocess.run(command, capture_output=True, text=True).stdout


def wait_until(true, folder=None, processes=(), seconds=60):
    """Until true() is true; what the daemons wrote, where that does not come or one of them ends."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end or any(p.poll() is not None for p in processes):
            logs = sorted([*folder.glob("*.out"), *folder.glob("*.log")]) if folder else []
            said = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in logs)
            raise AssertionError(f"it does not come\n{said}")
        time.sleep(0.1)
