-- How often in a row the same was refused, where it was counted: one row stands for so many.
alter table audit add column times bigint not null default 1;

-- The audit trail as it is searched. Ids grow with time, so each of these is in its order. A row is in one of the second
-- and third: what is about nobody is found by what was touched, all else by whom it is about.
create index audit_of_organization on audit (organization, id);
create index audit_of_person on audit (person, id) where person <> '';
create index audit_of_target on audit (target, id) where person = '';
create index audit_of_actor on audit (actor, id) where actor <> '';
create index audit_refused on audit (id) where outcome <> 'success';
