"""The referral loop with fhirpy."""

import uuid

from fhirpy import SyncFHIRClient
from fhirpy.base.exceptions import ResourceNotFound
import service

practice = SyncFHIRClient(service.FHIR, authorization=f"Bearer {service.token('practice')}")
coach = SyncFHIRClient(service.FHIR, authorization=f"Bearer {service.token('coach')}")

# Refer, and again as a system that did not hear the answer.
sent = service.referral()
referral = practice.resource("ServiceRequest", **sent)
referral.save()
again = practice.resource("ServiceRequest", **sent)
again.save()
assert again.id == referral.id, (again.id, referral.id)
status = practice.execute(f"ServiceRequest/{referral.id}/$status", method="get")
before = service.said(status, "state")

# Claim as a coach, record, complete.
task = coach.execute("Task/$claim-next", method="post", data=service.parameters(role="health-coach"))
assert task["resourceType"] == "Task" and task["status"] == "accepted", task
assert task["focus"]["reference"] == f"ServiceRequest/{referral.id}", task
subject, based_on = task["for"], [{"reference": task["focus"]["reference"]}]
encounter = coach.resource("Encounter", **service.resource("encounter", subject=subject, basedOn=based_on))
encounter.save()
pam = service.resource("pam", subject=subject, encounter={"reference": f"Encounter/{encounter.id}"})
observation = coach.resource("Observation", **pam)
observation.save()
task = coach.resources("Task").search(_id=task["id"]).first()
matching = SyncFHIRClient(
    service.FHIR,
    authorization=coach.authorization,
    extra_headers={"If-Match": f'W/"{task["meta"]["versionId"]}"'},
)
done = matching.execute(f"Task/{task.id}/$complete", method="post", data=service.parameters(outcome="accepted"))
assert done["status"] == "completed", done
status = practice.execute(f"ServiceRequest/{referral.id}/$status", method="get")
assert service.said(status, "state") != before, status

# Search, as the practice sees it.
found = practice.resources("Encounter").search(based_on=f"ServiceRequest/{referral.id}").fetch_all()
assert [e.id for e in found] == [encounter.id], found
assert practice.resources("Observation").search(_id=observation.id).first()["valueQuantity"]["value"] == 56.4

# Conditional create, as R4 has it (the library's own get_or_create asks in the URL, as Aidbox takes it): one is made.
number = str(uuid.uuid4())
identifier = {"system": "https://practice.example/Id/document", "value": number}
document = service.resource("document", identifier=[identifier])
once = SyncFHIRClient(
    service.FHIR,
    authorization=practice.authorization,
    extra_headers={"If-None-Exist": f"identifier={identifier['system']}|{number}"},
)
first, second = once.resource("DocumentReference", **document), once.resource("DocumentReference", **document)
first.save()
second.save()
assert first.id == second.id, (first.id, second.id)
first = practice.reference("DocumentReference", first.id).to_resource()

# Change by PUT.
first["description"] = "Changed"
first.save()
assert practice.reference("DocumentReference", first.id).to_resource()["description"] == "Changed"

# Paging: everything once.
made = {referral.id}
for _ in range(4):
    another = practice.resource("ServiceRequest", **service.referral())
    another.save()
    made.add(another.id)
pages = [r.id for r in practice.resources("ServiceRequest").limit(2).fetch_all()]
assert len(pages) == len(set(pages)) and made <= set(pages), pages

# What is not there is said as the library expects it.
try:
    practice.reference("Encounter", "nobody").to_resource()
    raise AssertionError("nobody was found")
except ResourceNotFound:
    pass
print("fhirpy: the loop is walked")
