"""One slot: the process that does actions for a worker; `app.slots` starts it with the number of its socket."""

import signal
import sys
from contextlib import ExitStack
from multiprocessing.connection import Connection

from cto_backups.app import assembled, silent
from cto_backups.app.adapters import Adapters
from cto_backups.cli.logs import configure
from cto_backups.cli.options import GlobalOptions
from cto_backups.config.reading import parse
from cto_backups.core.model import Action
from cto_backups.errors import BackupsError
from cto_backups.flows.installation import Installation
from cto_backups.flows.perform import Performed, attempt


def serve(connection: Connection) -> None:
    """Do the actions that come, one after the other, until nobody is there to send any."""
    with ExitStack() as stack:
        try:
            path, text = connection.recv()
        except (EOFError, OSError):  # nobody is there any more, or was killed with something unread
            return
        installation: Installation | None = None
        while True:
            try:
                action: Action = connection.recv()
            except (EOFError, OSError):  # nobody is there any more, or was killed with something unread
                return
            if installation is None:
                try:
                    configuration = parse(path, text)
                    adapters = Adapters(configuration)
                    stack.callback(adapters.close)
                    opening = assembled(configuration, adapters, progress=silent, write=True, known=True)
                    installation = stack.enter_context(opening).installation
                except BackupsError as error:
                    _tell(connection, Performed(action, error))
                    return
            _tell(connection, attempt(installation, action))


def _tell(connection: Connection, performed: Performed) -> None:
    try:
        connection.send(performed)
    except OSError:
        return  # the worker is gone: what was done is in the catalog


def main() -> None:
    """Serve on the socket whose number is given."""
    number, *logging = sys.argv[1:]
    # What a service manager sends to all is for the worker, which lets actions finish.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    configure(GlobalOptions(verbose=bool(logging), json=logging == ["json"]))
    try:
        serve(Connection(int(number)))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
