"""The referral loop with fhirclient (SMART on FHIR), whose models are strict R4."""

import uuid

from fhirclient import client
from fhirclient.models import (
    documentreference, encounter, observation, parameters, servicerequest, task as tasks,
)
from fhirclient.server import FHIRNotFoundException
import service


def signed_in(name):
    """A client that carries the token of one of ours."""
    smart = client.FHIRClient(settings={"app_id": name, "api_base": service.FHIR})
    smart.prepare()
    smart.server.session.headers["Authorization"] = f"Bearer {service.token(name)}"
    return smart.server


practice, coach = signed_in("practice"), signed_in("coach")

# The CapabilityStatement is read by a strict model.
statement = practice.capabilityStatement
assert statement.fhirVersion == "4.0.1"

# Refer, and again.
sent = service.referral()
referral = servicerequest.ServiceRequest(sent).create(practice)
again = servicerequest.ServiceRequest(sent).create(practice)
assert again["id"] == referral["id"], again
read = servicerequest.ServiceRequest.read(referral["id"], practice)
assert read.status == "active"


def status():
    said = parameters.Parameters(practice.request_json(f"ServiceRequest/{referral['id']}/$status"))
    return service.said(said.as_json(), "state")


before = status()

# Claim as a coach, record, complete.
claimed = coach.post_json("Task/$claim-next", service.parameters(role="health-coach")).json()
task = tasks.Task(claimed)
assert task.status == "accepted" and task.focus.reference == f"ServiceRequest/{referral['id']}"
subject, based_on = claimed["for"], [{"reference": task.focus.reference}]
met = encounter.Encounter(service.resource("encounter", subject=subject, basedOn=based_on)).create(coach)
pam = service.resource("pam", subject=subject, encounter={"reference": f"Encounter/{met['id']}"})
score = observation.Observation(pam).create(coach)
task = tasks.Task.read(task.id, coach)
coach.session.headers["If-Match"] = f'W/"{task.meta.versionId}"'
done = coach.post_json(f"Task/{task.id}/$complete", service.parameters(outcome="accepted")).json()
del coach.session.headers["If-Match"]
assert tasks.Task(done).status == "completed"
assert status() != before

# Search, as the practice sees it: strict models of all that came of it.
found = encounter.Encounter.where({"based-on": f"ServiceRequest/{referral['id']}"}).perform_resources(practice)
assert [e.id for e in found] == [met["id"]]
seen = observation.Observation.read(score["id"], practice)
assert seen.valueQuantity.value == 56.4

# Conditional create: twice, and there is one.
number = str(uuid.uuid4())
identifier = {"system": "https://practice.example/Id/document", "value": number}
document = documentreference.DocumentReference(service.resource("document", identifier=[identifier]))
practice.session.headers["If-None-Exist"] = f"identifier={identifier['system']}|{number}"
first, second = document.create(practice), document.create(practice)
del practice.session.headers["If-None-Exist"]
assert first["id"] == second["id"]

# Change by PUT.
kept = documentreference.DocumentReference.read(first["id"], practice)
kept.description = "Changed"
kept.update(practice)
assert documentreference.DocumentReference.read(first["id"], practice).description == "Changed"

# Paging: everything once.
made = {referral["id"]} | {servicerequest.ServiceRequest(service.referral()).create(practice)["id"] for _ in range(4)}
pages = [r.id for r in servicerequest.ServiceRequest.where({"_count": "2"}).perform_resources_iter(practice)]
assert len(pages) == len(set(pages)) and made <= set(pages), pages

try:
    encounter.Encounter.read("nobody", practice)
    raise AssertionError("nobody was found")
except FHIRNotFoundException:
    pass
print("fhirclient: the loop is walked")
