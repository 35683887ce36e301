-- History of a type, newest first: what is current, and what was replaced.
create index resource_by_time on resource (kind, updated_at, id, version);
create index resource_history_by_time on resource_history (kind, updated_at, id, version);
