"""cto.backups: a backup assurance system.

Data that is not backed up does not exist; a backup that was never restored does not work.

The story in one line::

    policy -> plan -> source -> repository -> vaults -> catalog -> verify / restore test -> assurance -> report

- A *policy* (one YAML file, ``config``) says what must survive and how fast it must be back.
- The *plan* (``core.plan``) is a pure function of policy, facts and time: which actions are due now.
- A *source* (``sources``) finds, captures, restores and fingerprints one kind of data.
- The *repository* (``repository``) keeps it in restic's format, so that it comes back without this product.
- *Exports* (``exports``) keep files in vaults as they are, each an object of its own under a manifest.
- *Vaults* (``vaults``) are the independent places in which copies lie.
- *Providers* (``providers``) are how vaults and sources speak to the services of Google and AWS.
- The *catalog* (``catalog``) holds facts only: points, copies, evidence, runs. What is still missing is planned again.
- *Flows* (``flows``) tell the story, one file a verb; ``app`` composes them with the adapters that ``registry`` knows.
- *Assurance* (``core.assurance``) judges, with reasons, how well each source would come back.
"""

__version__ = "0.1.0"
