"""Spark's session: opened by the task that needs it, and closed when the task ends."""

from __future__ import annotations

import atexit
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pydantic import ByteSize, PositiveInt, TypeAdapter, ValidationError

from churn.errors import ChurnError, Outage

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

log = logging.getLogger(__name__)
PACKAGES = Path(sys.prefix) / "spark"
"""Where `make` installs Spark: apart, because MLflow imports it wherever it finds it, which takes each process half a second."""
JAVA = 17
"""The oldest version of Java that Spark 4 runs on."""
_SECRET = "spark.authenticate.secret"  # noqa: S105 -- the name of a setting, which Spark shows to nobody
_LOCAL = re.compile(r"local(?:\[([1-9]\d*|\*)\])?")
_ANSWER = 5.0  # seconds within which a master accepts a connection
_DEFAULT_PORT = 7077
_SECRETS = re.compile(r"(?i)secret|password|passwd|token|(access|account)[._]?key|credential|salt|[._]key$")
_NAMES_OF_SECRETS = re.compile(r"spark\.kubernetes\.(driver|executor)\.secret(s|KeyRef)\.|(?i:tokenfile)$")
"""Settings that say where a secret is, and not the secret."""
_SECRET_VALUES = re.compile(r"(?i)://[^/\s:@]*:[^/\s@]+@|(password|secret|token)=")
# Where work runs must not change its result, nor who may see it: a file of settings cannot change these.
_FIXED = {
    "spark.authenticate": "true",
    "spark.network.crypto.enabled": "true",
    "spark.io.encryption.enabled": "true",
    "spark.sql.adaptive.enabled": "false",  # partitions are parts and receivers, and none may be merged
    "spark.sql.execution.arrow.maxRecordsPerBatch": "16",  # of pieces of an exchange, up to 2 MB each
}
_DEFAULTS = {
    "spark.app.name": "churn",
    "spark.executor.cores": "1",
    "spark.executor.memory": "512m",
    "spark.executor.memoryOverhead": "950m",
    "spark.ui.showConsoleProgress": "false",
    "spark.ui.killEnabled": "false",  # the pages have no login
    # Java does not know TMPDIR. Where a temporary folder may not hold programs, zstd cannot be loaded, and LZ4 does without.
    "spark.driver.extraJavaOptions": f"-Djava.io.tmpdir={tempfile.gettempdir()}",
    "spark.shuffle.mapStatus.compression.codec": "lz4",
    # An executor whose disk is full gets a part twice at most; where no other is left, the step fails soon.
    "spark.excludeOnFailure.enabled": "true",
    "spark.excludeOnFailure.task.maxTaskAttemptsPerExecutor": "2",
    "spark.excludeOnFailure.task.maxTaskAttemptsPerNode": "3",
    "spark.scheduler.excludeOnFailure.unschedulableTaskSetTimeout": "10s",
    "spark.log.level": "ERROR",
}


class SparkMissing(ChurnError):  # noqa: N818 -- names the state
    """Spark or its Java is not installed where the task runs."""


class SparkUnavailable(Outage):
    """The cluster does not answer, or has no executor."""


@dataclass(frozen=True)
class SparkPlace:
    """A cluster: its master, a file of Spark's settings, and the secret that its processes share."""

    master: str
    conf_file: Path | None = None
    secret: str | None = None

    @property
    def conf(self) -> dict[str, str]:
        """Spark's settings: our defaults, the file's, and those that no file may change.

        Raises:
            ChurnError: the file cannot be read, or has a secret, or a setting that it may not change.
        """
        given = read_conf(self.conf_file) if self.conf_file else {}
        return _DEFAULTS | given | _FIXED

    @property
    def executor_cores(self) -> int:
        """The cores of an executor.

        Raises:
            ChurnError: the file of settings has something else than a number.
        """
        return self._value("spark.executor.cores", PositiveInt)

    @property
    def memory_beside_heap(self) -> int:
        """Bytes that an executor may use beside Java's heap.

        Raises:
            ChurnError: the file of settings has something else than a size.
        """
        return self._value("spark.executor.memoryOverhead", ByteSize)

    def require_sizes(self) -> None:
        """Check the memory of executors, for which Java would not start.

        Raises:
            ChurnError: the file of settings has something else than a size.
        """
        _ = (self._value("spark.executor.memory", ByteSize), self.memory_beside_heap)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each standalone master; empty for other clusters.

        Raises:
            ChurnError: they cannot be read.
        """
        if not self.master.startswith("spark://"):
            return []
        places = [urlsplit(f"//{place}") for place in self.master.removeprefix("spark://").split(",")]
        try:
            return [(place.hostname or "", place.port or _DEFAULT_PORT) for place in places]
        except ValueError:
            raise ChurnError(
                f"CHURN_SPARK_MASTER={self.master} has no right port. Write for example spark://host:{_DEFAULT_PORT}."
            ) from None

    @property
    def local_cores(self) -> int | None:
        """The cores of the task's machine that work, if this is a local mode; None for clusters."""
        local = _LOCAL.fullmatch(self.master)
        if local is None:
            return None
        cores = local.group(1) or "1"
        return (os.cpu_count() or 1) if cores == "*" else int(cores)

    def _value(self, name: str, kind: Any) -> int:
        text = self.conf[name]
        mebibytes = kind is ByteSize and text.isdigit()  # what Spark takes a number for
        try:
            return int(TypeAdapter(kind).validate_python(f"{text}mib" if mebibytes else text))
        except ValidationError:
            raise ChurnError(f"{self.conf_file}: {name} is {text}. Write a number such as {_DEFAULTS[name]}.") from None


@dataclass(frozen=True)
class OpenedSession:
    """A session, for those who look at it: the id of its application, and the address of Spark's pages, if it has some."""

    application: str
    ui: str | None


_sessions: dict[SparkPlace, SparkSession] = {}
_listeners: list[Callable[[OpenedSession], None]] = []


def read_conf(file: Path) -> dict[str, str]:
    """Read a file of Spark's settings, a name and a value on each line, as in `spark-defaults.conf`.

    Raises:
        ChurnError: it cannot be read, has a secret, or a setting that decides results or safety.
    """
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise ChurnError(f"CHURN_SPARK_CONF={file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ChurnError(f"CHURN_SPARK_CONF={file} is not a text in UTF-8.") from error
    settings = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        name, _, value = re.sub(r"[\s=]+", " ", text, count=1).partition(" ")
        if not name.startswith("spark.") or not value:
            raise ChurnError(f"{file}, line {number}: write the name of a setting, a space and its value.")
        if _SECRET_VALUES.search(value) or (_SECRETS.search(name) and not _NAMES_OF_SECRETS.search(name)):
            raise ChurnError(
                f"{file}, line {number}: {name} looks like a secret, and Spark shows its settings to people. Give CHURN_SPARK_SECRET, and "
                "the keys of the data root to the executors as environment variables or files."
            )
        if name == "spark.master":
            raise ChurnError(f"{file}, line {number}: the master is CHURN_SPARK_MASTER. Delete the line.")
        if name in _FIXED and value.strip() != _FIXED[name]:
            raise ChurnError(f"{file}, line {number}: {name} is always {_FIXED[name]}. Delete the line.")
        settings[name] = value.strip()
    return settings


def open_session(place: SparkPlace) -> SparkSession:
    """The session of a cluster, which is opened on the first call and kept until `close_sessions`.

    Raises:
        SparkMissing: Spark or Java is not installed, or is too old.
        SparkUnavailable: the master does not answer.
        ChurnError: the settings cannot be used.
    """
    session = _sessions.get(place)
    if session is not None and has_stopped(session):
        _stop(_sessions.pop(place))
        session = None
    if session is None:
        session = _sessions[place] = _open(place)
        opened = opened_session(session)
        log.info("Spark application %s has been opened on %s.", opened.application, place.master)
        for listener in _listeners:
            listener(opened)
    return session


def has_stopped(session: SparkSession) -> bool:
    """Whether a session cannot be used any more: it was closed, Spark has ended it because it lost its cluster, or its Java has ended."""
    java = session.sparkContext._jsc
    try:
        return java is None or bool(java.sc().isStopped())
    except java_errors():
        return True


def close_sessions() -> None:
    """Stop the sessions of this process, and so their executors."""
    while _sessions:
        _, session = _sessions.popitem()
        _stop(session)


def _stop(session: SparkSession) -> None:
    try:
        session.stop()
    except java_errors() as error:
        log.warning("The Java of a Spark session had ended before it was closed (%s).", type(error).__name__)


def java_errors() -> tuple[type[Exception], ...]:
    """What a call of Java raises if Java has ended."""
    from py4j.protocol import Py4JError

    return (Py4JError, OSError)


@contextmanager
def listening(listener: Callable[[OpenedSession], None]) -> Iterator[None]:
    """Tell someone of each session that is opened meanwhile."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def opened_session(session: SparkSession) -> OpenedSession:
    """The id and the pages of a session."""
    context = session.sparkContext
    application, pages = str(context.applicationId), context.uiWebUrl
    master = context.getConf().get("spark.ui.reverseProxyUrl")
    if pages and master:
        pages = f"{master.rstrip('/')}/proxy/{application}/"
    return OpenedSession(application, pages)


def require_master(place: SparkPlace) -> None:
    """Check that a standalone master accepts connections, or one of several.

    Raises:
        SparkUnavailable: none does.
    """
    failed: OSError | None = None
    for address in place.addresses:
        try:
            socket.create_connection(address, _ANSWER).close()
        except OSError as error:
            failed = error
        else:
            return
    if failed:
        raise SparkUnavailable(
            f"The Spark master {place.master} does not answer ({failed.strerror or failed}). Start it, or correct CHURN_SPARK_MASTER, and run "
            "the step again; nothing was lost. Without a cluster, set CHURN_SPREAD=here."
        ) from failed


def count_executors(session: SparkSession) -> int:
    """The number of executors that are connected at present; in local mode, the process itself is one."""
    status: Any = session.sparkContext._jsc.sc().getExecutorMemoryStatus()
    known = int(status.size())
    return known if session.sparkContext.master.startswith("local") else known - 1


def _open(place: SparkPlace) -> SparkSession:
    require_java()
    if PACKAGES.is_dir() and str(PACKAGES) not in sys.path:
        sys.path.append(str(PACKAGES))
    try:
        from pyspark import SparkConf, SparkContext
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise SparkMissing(
            "CHURN_SPREAD is spark, but Spark is not installed. Run `make run SPREAD=spark`, or install requirements-spark.lock."
        ) from error
    require_master(place)
    place.require_sizes()
    # Spark's Python looks only here for the Python of executors. A name without its folder would not be found by them.
    os.environ["PYSPARK_PYTHON"] = place.conf.get("spark.pyspark.python") or sys.executable
    _quieten()
    # In one process, a part gets one attempt only, unless the master says otherwise.
    local = place.local_cores
    conf = SparkConf(loadDefaults=False).setMaster(f"local[{local},4]" if local else place.master)
    if local:  # nobody else needs to reach it
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    for name, value in place.conf.items():
        conf.set(name, value)
    if not _sessions:
        atexit.register(close_sessions)
    try:
        SparkContext._ensure_initialized(conf=conf)
        if place.secret:  # only now: Java's command line has the settings that are known before
            conf.set(_SECRET, place.secret)
        return SparkSession.builder.config(conf=conf).getOrCreate()
    except Exception as error:  # what Java raises comes as errors of several kinds
        raise SparkUnavailable(
            f"Spark could not be started on {place.master}: {_cause(error)} Correct CHURN_SPARK_MASTER, CHURN_SPARK_SECRET or "
            "CHURN_SPARK_CONF, or see the log of the master, and run the step again; nothing was lost."
        ) from error


def _quieten() -> None:
    """Leave out what Spark's Python says of itself with each session and each job."""
    logging.getLogger("py4j").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "PySpark does not yet fully support pandas", FutureWarning)


def _cause(error: Exception) -> str:
    """What Java said, without the places in its code."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if line.startswith((": ", "Caused by: "))]
    text = (named or lines or [type(error).__name__])[-1].removeprefix(": ").removeprefix("Caused by: ")
    return text if text.endswith(".") else f"{text}."


@cache
def require_java() -> None:
    """Check that a Java is installed that Spark runs on.

    Raises:
        SparkMissing: there is none, or it is too old.
    """
    install = f"Install version {JAVA} or later (Debian, Ubuntu: apt-get install openjdk-{JAVA}-jre-headless), or set JAVA_HOME."
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if java is None:
        raise SparkMissing(f"Spark needs Java, and there is none on this machine. {install}")
    try:
        said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=True).stderr
    except (OSError, subprocess.SubprocessError) as error:
        raise SparkMissing(f"{java} cannot be run ({type(error).__name__}). {install}") from error
    found = re.search(r'version "(?:1\.)?(\d+)', said)
    if found is None or int(found.group(1)) < JAVA:
        version = found.group(1) if found else "of an unknown version"
        raise SparkMissing(f"Spark needs Java {JAVA}, and {java} is Java {version}. {install}")
