-- What of a type an export asks for: a JSON list of searches, Type?parameter=value; '' for all of every type.
alter table export add column filters text not null default '';
-- What was deleted since then: how many of the type were counted so far, and of each type in all.
alter table export add column deleted bigint not null default 0;
alter table export_file add column deleted bigint not null default 0;
