-- Messages through MESH that carried a delivery, and what was heard of each. A row is there before the message leaves, so
-- that it can be looked for; `mesh_id` is '' until MESH has said it. A message that was refused is followed by one with an
-- identifier of its own; one that was only never answered keeps it, so that the practice knows the second for the first.
create table mesh_message (
    delivery    text   not null,
    number      bigint not null,
    local_id    text   not null unique,
    identifier  text   not null,
    mesh_id     text   not null,
    records     text   not null,
    made_at     bigint not null,
    sent_at     bigint,
    received_at bigint,
    accepted_at bigint,
    filed_at    bigint,
    failed_at   bigint,
    why         text   not null,
    said        text   not null,
    primary key (delivery, number)
);
create index mesh_message_by_identifier on mesh_message (identifier, number);
create index mesh_message_by_mesh_id on mesh_message (mesh_id) where mesh_id <> '';

-- What one instance does for all, now and then: whoever takes a turn has it until `held_until`, and the next is due at `due_at`.
create table turn (
    name       text   not null primary key,
    due_at     bigint not null,
    held_until bigint not null
);
