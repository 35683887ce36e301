"""What a search must find, by an independent FHIRPath (fhirpathpy) over R4's own SearchParameter expressions.

First line of the input: the path of the R4 package. Each further line: a resource. Each line of the output: a search,
with the ids it must find.
"""

import json
import re
import sys
import tarfile
import unicodedata
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation

from fhirpathpy import evaluate
from fhirpathpy.models import models

TYPES = {"token", "string", "reference", "date", "quantity", "number", "uri"}
PHONES = {"phone", "fax", "email", "pager", "url", "sms", "other"}
SEARCHES_PER_PARAMETER = 2


def definitions(path):
    with tarfile.open(path) as package:
        for member in package:
            if "/SearchParameter-" in member.name:
                yield json.load(package.extractfile(member))


def of_base(expression, base):
    begins = re.compile(r"^\(?%s[. )]" % base)
    parts = [part.strip() for part in expression.split(" | ")]
    return [part for part in parts if begins.match(part + " ")]


def followed(part):
    # `as` is for one value, and R4 writes it for many; `ofType` is what is meant.
    part = re.sub(r"\(([\w.]+) as (\w+)\)", r"\1.ofType(\2)", part).replace(".as(", ".ofType(")
    part = re.sub(r"hasExtension\(('[^']*')\)", r"extension.where(url=\1).exists()", part)
    # fhirpathpy resolves nothing: the reference says its type itself.
    return re.sub(
        r"where\(resolve\(\) is (\w+)\)",
        r"where(reference.exists() and (reference.startsWith('\1/') or reference.contains('/\1/')))",
        part,
    )


def folded(text):
    bare = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return " ".join(bare.lower().split())


def escaped(text):
    return re.sub(r"([\\,|$])", r"\\\1", text)


def tokens(value):
    if isinstance(value, bool):
        return [("", "true" if value else "false")]
    if isinstance(value, str):
        return [("", value)]
    if not isinstance(value, dict):
        return []
    if "coding" in value:
        return [(c.get("system", ""), c["code"]) for c in value["coding"] if "code" in c]
    if "code" in value:
        return [(value.get("system", ""), value["code"])]
    if "value" in value and isinstance(value["value"], str):
        return [("" if value.get("system") in PHONES else value.get("system", ""), value["value"])]
    return []


def strings(value):
    if isinstance(value, str):
        return [value]
    if not isinstance(value, dict):
        return []
    found = []
    for part in ("text", "family", "given", "prefix", "suffix", "line", "city", "district", "state", "postalCode", "country"):
        said = value.get(part, [])
        found += said if isinstance(said, list) else [said]
    return found


def references(value):
    if isinstance(value, str):
        return [value]
    said = value.get("reference", "") if isinstance(value, dict) else ""
    return [said.split("/_history/")[0]] if said and not said.startswith("#") else []


def day(text):
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


def interval(text):
    """From, and to before."""
    if len(text) == 4:
        return day(text + "-01-01"), day(str(int(text) + 1) + "-01-01")
    if len(text) == 7:
        year, month = int(text[:4]), int(text[5:])
        after = "%04d-%02d-01" % (year + month // 12, month % 12 + 1)
        return day(text + "-01"), day(after)
    if len(text) == 10:
        return day(text), day(text) + timedelta(days=1)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    fraction = re.search(r"\.(\d+)", text)
    width = timedelta(microseconds=10 ** (6 - min(6, len(fraction.group(1))))) if fraction else timedelta(seconds=1)
    return moment, moment + width


FIRST, LAST = datetime.min.replace(tzinfo=timezone.utc), datetime.max.replace(tzinfo=timezone.utc)


def dates(value):
    if isinstance(value, str):
        return [interval(value)]
    if isinstance(value, dict) and ("start" in value or "end" in value):
        low = interval(value["start"])[0] if "start" in value else FIRST
        return [(low, interval(value["end"])[1] if "end" in value else LAST)]
    return []


def numbers(value):
    try:
        if isinstance(value, dict):
            if "value" not in value or "comparator" in value:
                return []
            return [(Decimal(str(value["value"])), value.get("system", ""), value.get("code", ""))]
        return [] if isinstance(value, (bool, str)) else [(Decimal(str(value)), "", "")]
    except InvalidOperation:
        return []


READ = {
    "token": tokens,
    "string": strings,
    "reference": references,
    "date": dates,
    "quantity": numbers,
    "number": numbers,
    "uri": lambda value: [value] if isinstance(value, str) else [],
}


def searches(kind, found):
    """Each search that one of the values suggests: its text, and the test that a value must pass."""
    if kind == "token":
        system, code = found
        text = escaped(system) + "|" + escaped(code) if system else escaped(code)
        yield text, lambda v: v == found if system else v[1] == code
    elif kind == "string":
        start = found[:6].strip()
        if folded(start):
            yield escaped(start), lambda v: folded(v).startswith(folded(start))
    elif kind == "reference":
        if re.match(r"^[A-Z]\w+/[^/]+$", found) or ":" in found:
            plain = found.split("|")[0]
            yield escaped(plain), lambda v: v == plain or v.startswith(plain + "|")
    elif kind == "uri":
        yield escaped(found), lambda v: v == found or v.startswith(found + "|")
    elif kind == "date":
        if FIRST < found[0] and found[0].year > 1:
            at = found[0].strftime("%Y-%m-%d")
            low, high = interval(at)
            yield at, lambda v: low <= v[0] and v[1] <= high
            yield "gt" + at, lambda v: v[1] > high
            yield "le" + at, lambda v: v[0] < low or (low <= v[0] and v[1] <= high)
    else:
        value, system, code = found
        half = Decimal(1).scaleb(value.as_tuple().exponent) / 2
        text = str(value) + ("|" + escaped(system) + "|" + escaped(code) if system and code else "")
        same = lambda v: not (system and code) or v[1:] == (system, code)
        yield text, lambda v: value - half <= v[0] < value + half and same(v)
        yield "lt" + text, lambda v: v[0] < value and same(v)


def main():
    package = sys.stdin.readline().strip()
    resources = [json.loads(line) for line in sys.stdin]
    present = sorted({r["resourceType"] for r in resources})
    for parameter in definitions(package):
        expression, code, kind = parameter.get("expression", ""), parameter["code"], parameter["type"]
        if not expression or ".extension(" in expression or kind not in TYPES or parameter["id"].startswith("example"):
            continue
        if code in ("_id", "_lastUpdated", "phonetic"):
            continue
        for base in present:
            parts = of_base(expression, base)
            if base in parameter["base"] and parts:
                compare(base, code, kind, [followed(part) for part in parts], resources)


def compare(base, code, kind, parts, resources):
    values = {}
    for resource in resources:
        if resource["resourceType"] == base:
            found = []
            for part in parts:
                for value in evaluate(resource, part, {}, models["r4"]):
                    found += READ[kind](value)
            values[resource["id"]] = found
    asked = set()
    for found in [v for of_one in values.values() for v in of_one]:
        for text, test in searches(kind, found):
            if text in asked or len(asked) >= SEARCHES_PER_PARAMETER * (3 if kind == "date" else 1):
                continue
            asked.add(text)
            expected = sorted(id for id, of_one in values.items() if any(test(v) for v in of_one))
            print(json.dumps({"kind": base, "code": code, "value": text, "expected": expected}))


main()
