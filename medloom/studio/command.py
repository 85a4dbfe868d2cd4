"""`medloom studio`: the toolkit in a browser."""

import logging
import socket
import webbrowser
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from threading import Timer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

from medloom.core.errors import UserError
from medloom.core.limits import check_limits, limited
from medloom.core.options import repeated
from medloom.core.output_folder import output_files
from medloom.core.progress import say
from medloom.studio.rating_options import RATING, RatingOptions, rating_series

if TYPE_CHECKING:
    from medloom.studio.web.studio import Settings

# Where `medloom demo` puts its run, its held-out patients and its report.
DEMO_RUN, DEMO_DATA, DEMO_REPORT = (Path("runs/demo") / name for name in ("run", "cohort/test.csv", "report"))
# Seconds until the page is opened: the server listens by then.
OPENING = 0.5
# Connections that may wait until the server takes them.
WAITING = 128


@dataclass(frozen=True, kw_only=True)
class Config(RatingOptions):
    """Open the studio: generate, edit and ask what if in a browser, on this computer.

    Attributes:
        model: run folder of a model (default: that of the demo, runs/demo/run, if it is there).
        data: table of images: its texts are examples, its rows are cases.
        report: folder of a report that `medloom evaluate` wrote.
        out: folder of the studio's jobs and results.
        host: address to listen at; any other than this computer's own needs --password-file.
        port: of the address.
        password_file: file of users and hashed passwords; see --add-user.
        add_user: add a user to --password-file, or give one another password, and end.
        public: address of a proxy with TLS before the studio, https://...
        upload_mb: largest file that can be brought to the pages, in MB.
        keep_hours: hours until files that were brought are removed, unless they are kept.
        save_under: folder below which results can be saved under a name from the pages.
        launcher: write a file that starts this studio on a double click, and end: .desktop, .command, .sh or .bat.
        open: open the page in the browser of this computer.
        device: auto, cpu or cuda.
    """

    example: ClassVar[str] = "medloom studio --model runs/mm --data cohort.csv"
    common: ClassVar[tuple[str, ...]] = (
        "model", "data", "report", "out", "host", "port", "password_file", "add_user", "open", "device",
        "rate", "store", "raters", "blind",
    )  # fmt: skip
    groups: ClassVar[Mapping[str, tuple[str, ...]]] = {"Rating images": RATING}

    model: tuple[str, ...] = repeated()
    data: tuple[str, ...] = repeated()
    report: tuple[str, ...] = repeated()
    out: Path = Path("runs/studio")
    host: str = "127.0.0.1"
    port: int = limited(8765, at_least=0, at_most=65535)
    password_file: Path | None = None
    add_user: str | None = None
    public: str | None = None
    upload_mb: int = limited(200, at_least=1)
    keep_hours: float = limited(24.0, above=0)
    save_under: Path | None = None
    launcher: Path | None = None
    open: bool = True
    device: str = "auto"


def run(config: Config) -> int:
    """Serve the pages until Ctrl-C; returns the exit status.

    Raises:
        UserError: an option out of range, a model or table that cannot be used, an address beyond this computer without
            passwords, or a studio that another process serves.
    """
    import uvicorn

    from medloom.studio.launcher import write_launcher
    from medloom.studio.store.database import FILE
    from medloom.studio.store.store import Store
    from medloom.studio.supervision import worker
    from medloom.studio.uploads.housekeeping import housekeeping
    from medloom.studio.web.app import create_app

    check_limits(config)
    if config.add_user is not None:
        return _add_user(config)
    settings = _settings(config)
    if config.launcher is not None:
        write_launcher(config.launcher, _words(config))
        say(f"{config.launcher} starts this studio in {Path.cwd()}.")
        return 0
    _require_own(config.out, FILE)
    with output_files(config.out / FILE), rating_series(config, config.out, settings.passwords) as ratings:
        if ratings is not None and ratings.blind and (config.model or config.data or config.report):
            raise UserError(
                f"{ratings.store.path} has blinded ratings, and raters are shown nothing but the images that are rated:"
                " serve --model, --data and --report by another studio, with another --out."
            )
        app = create_app(settings, ratings)
        listening = _listen(config)
        address = f"http://{_shown_host(config.host)}:{listening.getsockname()[1]}/"
        say(f"medloom studio: {address} (Ctrl-C ends it; what runs is resumed at the next start)")
        for rater in () if ratings is None else ratings.raters:
            reached = f"{config.public.rstrip('/')}/" if config.public else address
            say(f"{rater.name} rates at {reached}rate/{rater.link}")
        # Of requests nothing is logged, since forms may have what identifies a patient; the application logs where
        # something goes wrong in one, without its message.
        logging.getLogger("uvicorn.error").addFilter(lambda record: record.levelno < logging.ERROR)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=2,
                # Whose request it is, by which tries of passwords are counted, is said by a proxy and by no one else.
                proxy_headers=config.public is not None,
            )
        )
        if config.open:
            Timer(OPENING, webbrowser.open, [address]).start()
        # Blinded raters have no page that queues a job.
        working = nullcontext() if ratings is not None and ratings.blind else worker(settings)
        with working, housekeeping(Store(settings.folder), settings.hours):
            server.run(sockets=[listening])
    return 0


def _add_user(config: Config) -> int:
    from medloom.studio.web.passwords import add_user

    if config.password_file is None or config.add_user is None:
        raise UserError("--add-user needs --password-file, the file that the user is added to.")
    add_user(config.password_file, config.add_user)
    say(f"{config.add_user} can log in to a studio with --password-file {config.password_file}.")
    return 0


def _settings(config: Config) -> "Settings":
    """The options, checked, with what stands for those that were left out.

    Raises:
        UserError: see `run`.
    """
    from medloom.studio.catalogue import read_table
    from medloom.studio.model_facts import stamp_of
    from medloom.studio.web.guard import LOOPBACK
    from medloom.studio.web.passwords import read_passwords
    from medloom.studio.web.studio import Settings

    passwords = read_passwords(config.password_file) if config.password_file else {}
    if config.host not in LOOPBACK and not passwords:
        raise UserError(
            f"--host {config.host}: others can reach this address, so users have to log in; make a file of passwords"
            " with `medloom studio --password-file passwords.txt --add-user NAME` and give --password-file."
        )
    public = config.public
    if public is not None and (urlsplit(public).scheme not in ("http", "https") or not urlsplit(public).hostname):
        raise UserError(f"--public {public}: give an address as https://studio.example.org.")
    if public is not None and not passwords:
        raise UserError(f"--public {public}: others can reach this address, so users have to log in: --password-file.")
    models = [Path(path) for path in config.model]
    tables = [Path(path) for path in config.data]
    reports = [Path(path) for path in config.report]
    if not models and not config.rates and DEMO_RUN.is_dir():
        models = [DEMO_RUN]
        tables = tables or [path for path in (DEMO_DATA,) if path.is_file()]
        reports = reports or [path for path in (DEMO_REPORT,) if path.is_dir()]
    for path in models:
        stamp_of(path)
    for path in tables:
        say(f"reading {path}")
        read_table(path)
    for path in reports:
        if not (path / "report.html").is_file():
            raise UserError(f"--report {path} has no report.html; give a folder that `medloom evaluate` wrote.")
    if config.save_under is not None and not config.save_under.is_dir():
        raise UserError(f"--save-under {config.save_under} is no folder; make it first.")
    return Settings(
        config.out.absolute(),
        config.host,
        config.port,
        public,
        passwords,
        tuple(models),
        tuple(tables),
        tuple(reports),
        config.device,
        config.upload_mb * 2**20,
        config.keep_hours,
        None if config.save_under is None else config.save_under.absolute(),
    )


def _words(config: Config) -> list[str]:
    """The options that were given, as words of the command line."""
    words = []
    for entry in fields(config):
        value = getattr(config, entry.name)
        usual = entry.default_factory() if callable(entry.default_factory) else entry.default
        if entry.name in ("launcher", "add_user") or value == usual:
            continue
        name = entry.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no-{name}")
        else:
            words += [f"--{name}={each}" for each in (value if isinstance(value, tuple) else (value,))]
    return words


def _require_own(out: Path, file: str) -> None:
    """Refuse a folder of something else.

    Raises:
        UserError: names it.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / file).exists()):
        raise UserError(f"--out {out} holds no studio but something else; name a new or empty folder.")


def _listen(config: Config) -> socket.socket:
    """A socket that listens at the address.

    Raises:
        UserError: it is taken, or not one of this computer.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((config.host, config.port))
        # From now on no other process can have the address.
        listening.listen(WAITING)
    except OSError as error:
        listening.close()
        raise UserError(
            f"--host {config.host} --port {config.port} cannot be used ({error.strerror}): give another --port, or 0"
            " for any that is free."
        ) from error
    return listening


def _shown_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host
