"""Running one job: the command line of the job, in this process, with what it says noted in the store."""

import logging
import time
import traceback

from medloom.core.config import parse
from medloom.core.errors import GateError, UserError
from medloom.core.progress import LOG, listening
from medloom.generation.previews import previewing
from medloom.recipes.commands import resolve
from medloom.recipes.edit import Config as EditConfig
from medloom.studio.store.jobs import CANCELLED, DONE, FAILED, QUEUED, Job
from medloom.studio.store.store import Store
from medloom.studio.work.priors import keep_prior
from medloom.studio.work.reporter import Reporter

UNEXPECTED = "an unexpected error in medloom; the log of the studio's worker has where it happened"

# Seconds between two tries to note what became of a job, on a disk that is full.
AGAIN = 1.0


def run_job(store: Store, job: Job, device: str) -> None:
    """Run a job to its end, and note what became of it.

    Args:
        store: of the studio.
        job: to run.
        device: auto, cpu or cuda.

    Raises:
        KeyboardInterrupt: the worker is to end; the job is queued again.
    """
    reporter = Reporter(store, job)
    LOG.addHandler(reporter)
    try:
        config, run = resolve(job.command)
        words = [*job.words, f"--out={store.results(job.id)}"]
        if hasattr(config, "device"):
            words.append(f"--device={device}")
        with listening(reporter.progress), previewing(reporter.preview):
            options = parse(config, words, job.command)
            run(options)
            if isinstance(options, EditConfig) and options.image is not None:
                keep_prior(store, job, options)
    except UserError as error:
        finish(store, job, FAILED, _by_their_names(store, job, str(error)))
    except GateError as error:
        finish(store, job, DONE, str(error))
    except KeyboardInterrupt:
        if not store.jobs.is_cancelling(job):
            store.jobs.finish(job, QUEUED)
            raise
        finish(store, job, CANCELLED, "cancelled")
    except Exception as error:  # noqa: BLE001
        # One job's defect is no other's; and no line of a message, which may quote a prompt, goes into a log.
        where = "".join(traceback.format_tb(error.__traceback__))
        logging.getLogger("medloom.studio").error("job %s: %s\n%s", job.number, type(error).__name__, where)
        finish(store, job, FAILED, f"{UNEXPECTED} ({type(error).__name__}, job {job.number})")
    else:
        finish(store, job, DONE, reporter.messages[-1] if reporter.messages else "")
    finally:
        LOG.removeHandler(reporter)


def _by_their_names(store: Store, job: Job, message: str) -> str:
    """A sentence with the files that the user brought as the user calls them, and not by where they are kept."""
    for upload in store.uploads.of(job.user):
        message = message.replace(str(store.folder / upload.file), upload.name)
    return message


def finish(store: Store, job: Job, state: str, message: str) -> None:
    """Note what became of a job, as soon as the store can be written."""
    while True:
        try:
            store.jobs.finish(job, state, message)
        except UserError:
            time.sleep(AGAIN)
        else:
            return
