"""Says what the fhirkit validator (Python package fhirkit-rs) finds in FHIR R4 resources.

One JSON resource a line on standard input; for each, one line out: "ok", or the path and message of its first error.
Structure and formats only: fhirkit checks no required codes, no calendar, no invariants.
"""

import sys

import fhirkit

for line in sys.stdin:
    try:
        errors = [i for i in fhirkit.validate(line) if i.severity == "error"]
        print(f"{errors[0].path}: {errors[0].message}" if errors else "ok")
    except Exception as refused:
        print(f"refused: {refused}".splitlines()[0])
