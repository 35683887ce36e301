-- Deliveries for many instances: who holds what, who waits behind whom, and how each destination is doing. What one
-- instance knows of a destination is what all know.

-- The channel it was sent by, '' before it was.
alter table delivery add column channel text not null default '';
-- 'write-back' to a practice, or 'notification' to a subscriber: its `practice` is then 'Subscription/<id>', its `person` ''.
alter table delivery add column purpose text not null default 'write-back';
-- The process that leased it last.
alter table delivery add column worker text not null default '';
-- An earlier one for the same person at the same practice is not settled.
alter table delivery add column behind boolean not null default false;
-- Leases in a row that ended without a result.
alter table delivery add column lapses bigint not null default 0;

update delivery set behind = true where settled_at is null and exists (
    select 1 from delivery e where e.practice = delivery.practice and e.person = delivery.person
    and e.place < delivery.place and e.settled_at is null);

create index delivery_ready on delivery (practice, due_at, id) where settled_at is null and not behind;
create index delivery_line on delivery (practice, person, place) where settled_at is null;
create index delivery_leased on delivery (practice, lease_until) where lease_until > 0;
create index delivery_open on delivery (practice, state, behind, created_at) where settled_at is null;
create index delivery_parked on delivery (practice, state, created_at) where state in ('needs-person', 'refused');
create index delivery_parked_of_person on delivery (person) where state in ('needs-person', 'refused');

-- How a destination of deliveries (`delivery.practice`) is doing; none for one that nothing was sent to yet.
create table destination (
    practice     text   not null primary key,
    -- Failures in a row, and since when its circuit breaker is open (0: closed).
    failures     bigint not null default 0,
    opened_at    bigint not null default 0,
    -- While the breaker is open: when the next delivery may try.
    probe_at     bigint not null default 0,
    -- What the destination asked for with Retry-After.
    paused_until bigint not null default 0,
    -- Token bucket (generic cell rate algorithm): when it will be full again.
    full_at      bigint not null default 0,
    -- When something was last taken for it: who was served longest ago is served first.
    served_at    bigint not null default 0
);
