-- A work list is read from its index: which Tasks, in which order, and whether they are of the status that is asked for.
-- The index before it lacked the status, so each Task's row was read for it.
create index task_list on task (locality, role, priority, due, id, status) where open;
drop index task_work_list;

-- Whether a person is of a locality is asked for each row that a member of staff is shown.
create index referral_of_person on referral (person, received_at, locality);
drop index referral_by_person;
