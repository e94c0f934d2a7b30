"""The control frameworks that findings are reported against, and the clauses of each that a control gives evidence for.

A clause named here is one that the control helps to meet; no control, nor all of them, meets a framework as a whole.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache


class Framework(StrEnum):
    """A set of requirements that auditors know, by its usual name."""

    SOC2 = "SOC 2"
    ISO27001 = "ISO/IEC 27001:2022"
    NIST = "NIST SP 800-53 rev. 5"
    CIS = "CIS Controls v8"
    DORA = "DORA (EU) 2022/2554"
    HIPAA = "HIPAA Security Rule"


@dataclass(frozen=True, slots=True)
class Clause:
    """One requirement of a framework: its number there, and what it is about in a few words."""

    framework: Framework
    number: str
    title: str


_TITLES: Mapping[Framework, Mapping[str, str]] = {
    Framework.SOC2: {
        "A1.2": "Backup processes and recovery infrastructure",
        "A1.3": "Recovery procedures are tested",
        "C1.2": "Confidential information is disposed of",
        "CC6.1": "Logical access to protected information",
        "CC6.3": "Least privilege and segregation of duties",
        "CC7.2": "Monitoring for anomalies",
        "CC7.3": "Security events are evaluated",
        "CC8.1": "Changes are authorized and approved",
    },
    Framework.ISO27001: {
        "A.5.3": "Segregation of duties",
        "A.5.9": "Inventory of information and other associated assets",
        "A.5.26": "Response to information security incidents",
        "A.5.30": "ICT readiness for business continuity",
        "A.5.33": "Protection of records",
        "A.8.10": "Information deletion",
        "A.8.13": "Information backup",
        "A.8.14": "Redundancy of information processing facilities",
        "A.8.16": "Monitoring activities",
        "A.8.17": "Clock synchronization",
        "A.8.24": "Use of cryptography",
        "A.8.32": "Change management",
    },
    Framework.NIST: {
        "AU-8": "Time stamps",
        "AU-9": "Protection of audit information",
        "CM-3": "Configuration change control",
        "CM-8": "System component inventory",
        "CP-2": "Contingency plan",
        "CP-4": "Contingency plan testing",
        "CP-6": "Alternate storage site",
        "CP-6(1)": "Alternate storage site: separation from the primary site",
        "CP-9": "System backup",
        "CP-9(1)": "System backup: testing for reliability and integrity",
        "CP-9(2)": "System backup: test restoration using sampling",
        "CP-9(3)": "System backup: separate storage for critical information",
        "CP-9(5)": "System backup: transfer to alternate storage site",
        "CP-9(7)": "System backup: dual authorization for deletion or destruction",
        "CP-9(8)": "System backup: cryptographic protection",
        "CP-10": "System recovery and reconstitution",
        "IR-6": "Incident reporting",
        "SC-8": "Transmission confidentiality and integrity",
        "SC-12": "Cryptographic key establishment and management",
        "SC-12(1)": "Cryptographic key establishment and management: availability",
        "SC-28": "Protection of information at rest",
        "SC-45": "System time synchronization",
        "SI-4": "System monitoring",
        "SI-12": "Information management and retention",
        "SI-12(3)": "Information management and retention: information disposal",
    },
    Framework.CIS: {
        "3.4": "Enforce data retention",
        "3.5": "Securely dispose of data",
        "3.10": "Encrypt sensitive data in transit",
        "3.11": "Encrypt sensitive data at rest",
        "8.4": "Standardize time synchronization",
        "11.1": "Establish and maintain a data recovery process",
        "11.2": "Perform automated backups",
        "11.3": "Protect recovery data",
        "11.4": "Establish and maintain an isolated instance of recovery data",
        "11.5": "Test data recovery",
        "17.2": "Establish and maintain contact information for reporting security incidents",
    },
    Framework.DORA: {
        "Art. 9(4)(d)": "Strong authentication; protection of cryptographic keys",
        "Art. 9(4)(e)": "ICT change management",
        "Art. 10": "Detection",
        "Art. 11": "Response and recovery",
        "Art. 11(6)": "Testing of continuity, response and recovery plans",
        "Art. 12(1)": "Backup policies: scope and minimum frequency; restoration and recovery procedures",
        "Art. 12(2)": "Backup systems; periodic testing of backup and restoration",
        "Art. 12(3)": "Segregated systems for restoring; protection from unauthorised access and corruption",
        "Art. 12(6)": "Recovery time and recovery point objectives",
        "Art. 12(7)": "Checks of data integrity when recovering",
        "Art. 14": "Communication",
    },
    Framework.HIPAA: {
        "164.308(a)(5)(ii)(B)": "Protection from malicious software",
        "164.308(a)(6)(ii)": "Response and reporting",
        "164.308(a)(7)(ii)(A)": "Data backup plan",
        "164.308(a)(7)(ii)(B)": "Disaster recovery plan",
        "164.308(a)(7)(ii)(D)": "Testing and revision procedures",
        "164.308(a)(7)(ii)(E)": "Applications and data criticality analysis",
        "164.312(a)(2)(iv)": "Encryption and decryption",
        "164.312(c)(1)": "Integrity",
        "164.312(e)(1)": "Transmission security",
    },
}

CLAUSES: Mapping[str, Clause] = {
    number: Clause(framework, number, title)
    for framework, titles in _TITLES.items()
    for number, title in titles.items()
}
"""Every clause by its number: no two frameworks number alike."""


def clauses(numbers: str) -> tuple[Clause, ...]:
    """The clauses with these numbers, divided by ";". Raises KeyError for one that is not known."""
    return tuple(CLAUSES[number.strip()] for number in numbers.split(";"))


@cache
def by_framework(mapped: tuple[Clause, ...]) -> Mapping[Framework, tuple[Clause, ...]]:
    """Clauses by their framework, in the order of their declaration; without the frameworks that have none."""
    chosen = set(mapped)
    found = {
        framework: tuple(clause for clause in CLAUSES.values() if clause in chosen and clause.framework is framework)
        for framework in Framework
    }
    return {framework: each for framework, each in found.items() if each}


def cited(mapped: tuple[Clause, ...]) -> str:
    """Clauses as they are cited: "SOC 2 A1.2; ISO/IEC 27001:2022 A.8.13, A.8.14"."""
    found = by_framework(mapped).items()
    return "; ".join(f"{name} {', '.join(clause.number for clause in each)}" for name, each in found)
