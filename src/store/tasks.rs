//! The human task queue: its own indexed table beside the Task resources.

use super::query::Query;
use super::{At, Sight, StoreError, Stored, Tx, criteria};
use crate::fhir::search::{Column, Criterion, QueueTest};
use crate::pathway::task::is_open_status;

/// A Task, as far as the queue orders and hands it out.
#[derive(Clone, sqlx_macros::FromRow)]
pub struct TaskRow {
    pub id: String,
    pub version: i64,
    pub status: String,
    /// The step of the pathway, e.g. `contact-patient`.
    pub code: String,
    /// The local role code that may work on it.
    pub role: String,
    /// Location id, '' for any locality.
    pub locality: String,
    /// ODS code of the practice, '' for none.
    pub practice: String,
    /// `PractitionerRole/id`, '' while nobody's.
    pub owner: String,
    /// 0 stat, 1 asap, 2 urgent, 3 routine.
    pub priority: i64,
    /// When it may first be handed out.
    pub ready: At,
    pub due: At,
    /// Id of the ServiceRequest, '' for none.
    pub referral: String,
    pub person: String,
    pub created_at: At,
    /// Neither done nor given up.
    pub open: bool,
    /// Since when its clock is paused, 0 while it runs.
    pub held_at: At,
}

/// What a caller asks the queue for.
pub struct WorkOrder<'a> {
    pub role: &'a str,
    /// Localities whose Tasks the caller may take; `None` for all. Tasks without a locality are anyone's.
    pub localities: Option<&'a [String]>,
    /// Only this practice's (ODS).
    pub practice: Option<&'a str>,
    pub now: At,
}

/// A Task resource, and where it stands in the queue.
#[derive(sqlx_macros::FromRow)]
pub struct QueuedTask {
    pub priority: i64,
    pub due: At,
    #[sqlx(flatten)]
    pub task: Stored,
}

const COLUMNS: &str = "t.id, t.version, t.status, t.code, t.role, t.locality, t.practice, t.owner, t.priority, t.ready, t.due, \
     t.referral, t.person, t.created_at, t.open, t.held_at";

impl Tx {
    /// Adds Tasks to the queue. Put off until the next statement, or the commit.
    pub async fn insert_tasks(&mut self, tasks: &[TaskRow]) -> Result<(), StoreError> {
        let rows = tasks.iter().map(|t| {
            vec![
                t.id.as_str().into(),
                t.version.into(),
                t.status.as_str().into(),
                t.code.as_str().into(),
                t.role.as_str().into(),
                t.locality.as_str().into(),
                t.practice.as_str().into(),
                t.owner.as_str().into(),
                t.priority.into(),
                t.ready.into(),
                t.due.into(),
                t.referral.as_str().into(),
                t.person.as_str().into(),
                t.created_at.into(),
                t.open.into(),
                t.held_at.into(),
            ]
        });
        let insert = "task (id, version, status, code, role, locality, practice, owner, priority, ready, \
                          due, referral, person, created_at, open, held_at)";
        self.put_off(insert, rows, "").await
    }

    /// A Task of the queue.
    pub async fn task(&mut self, id: &str) -> Result<Option<TaskRow>, StoreError> {
        sql!(
            self,
            fetch_optional,
            "select id, version, status, code, role, locality, practice, owner, priority, ready, due, referral, person, \
             created_at, open, held_at from task where id = $1",
            id
        )
    }

    /// Writes a Task's place in the queue, from version `before`. False when it has moved meanwhile.
    pub async fn update_task(&mut self, task: &TaskRow, before: i64) -> Result<bool, StoreError> {
        let changed = sql!(
            self,
            execute,
            "update task set version = $3, status = $4, owner = $5, priority = $6, due = $7, open = $8, \
             locality = $9, role = $10, held_at = $11 where id = $1 and version = $2",
            &task.id,
            before,
            task.version,
            &task.status,
            &task.owner,
            task.priority,
            task.due,
            task.open,
            &task.locality,
            &task.role,
            task.held_at
        )?;
        Ok(changed == 1)
    }

    /// Gives a Task another place in the order; its version stays.
    pub async fn reorder_task(&mut self, id: &str, priority: i64, due: At) -> Result<(), StoreError> {
        sql!(self, execute, "update task set priority = $2, due = $3 where id = $1", id, priority, due)?;
        Ok(())
    }

    /// The most urgent unowned Task a caller may work on. On PostgreSQL it is locked for this transaction, and one
    /// that another caller is just taking is passed over.
    pub async fn next_unclaimed(&mut self, order: &WorkOrder<'_>) -> Result<Option<TaskRow>, StoreError> {
        let mut query = Query::new("select ");
        query
            .push(COLUMNS)
            .push(" from task t where t.status in ('requested', 'received') and t.role = ")
            .bind(order.role);
        if let Some(localities) = order.localities {
            query.push(" and t.locality in (''");
            for locality in localities {
                query.push(", ").bind(locality.as_str());
            }
            query.push(")");
        }
        query.push(" and t.ready <= ").bind(order.now);
        if let Some(practice) = order.practice {
            query.push(" and t.practice = ").bind(practice);
        }
        query.push(" order by t.priority, t.due, t.id limit 1");
        if self.is_on_postgres() {
            query.push(" for update skip locked");
        }
        Ok(self.rows(query).await?.pop())
    }

    /// Tasks of a referral, oldest first.
    pub async fn tasks_of_referral(&mut self, referral: &str) -> Result<Vec<TaskRow>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select id, version, status, code, role, locality, practice, owner, priority, ready, due, referral, person, \
             created_at, open, held_at from task where referral = $1 and referral <> '' order by created_at, id",
            referral
        )
    }

    /// The open Tasks with this code about a person.
    pub async fn open_tasks_for_person(&mut self, person: &str, code: &str) -> Result<Vec<String>, StoreError> {
        let found: Vec<(String,)> = sql!(
            self,
            fetch_all,
            "select id from task where person = $1 and code = $2 and open order by id",
            person,
            code
        )?;
        Ok(found.into_iter().map(|(id,)| id).collect())
    }

    /// Whether an open Task with this code stands for a person.
    pub async fn has_open_task_for_person(&mut self, person: &str, code: &str) -> Result<bool, StoreError> {
        let found: (bool,) = sql!(
            self,
            fetch_one,
            "select exists (select 1 from task where person = $1 and code = $2 and open)",
            person,
            code
        )?;
        Ok(found.0)
    }

    /// Whether an open Task with this code, about no person, stands for a practice.
    pub async fn has_open_task_for_practice(&mut self, practice: &str, code: &str) -> Result<bool, StoreError> {
        let found: (bool,) = sql!(
            self,
            fetch_one,
            "select exists (select 1 from task where practice = $1 and code = $2 and open and person = '')",
            practice,
            code
        )?;
        Ok(found.0)
    }

    /// Searches the queue: at most `limit` Task resources after `after`, most urgent first.
    pub async fn search_tasks(
        &mut self,
        wanted: &[Criterion],
        sight: &Sight,
        after: Option<(i64, i64, &str)>,
        limit: i64,
    ) -> Result<Vec<QueuedTask>, StoreError> {
        // Of the queue no more than its order has: an index holds that, and the row itself is not read.
        let mut query = Query::new(
            "select t.priority, t.due, r.kind, r.id, r.version, r.updated_at, r.deleted, r.sender, r.person, r.referral, \
             r.body",
        );
        queued(&mut query, wanted, sight);
        if let Some((priority, due, id)) = after {
            query.push(" and (t.priority, t.due, t.id) > (").bind(priority).push(", ").bind(due).push(", ");
            query.bind(id).push(")");
        }
        // Not bound: PostgreSQL plans a limit that it does not know anew each time, which takes longer than the page.
        query.push_number(" order by t.priority, t.due, t.id limit ", limit);
        self.rows(query).await
    }

    /// Open Tasks by step: how many, and how many of them are past their due time.
    pub async fn open_task_counts(&mut self, now: At) -> Result<Vec<(String, i64, i64)>, StoreError> {
        sql!(
            self,
            fetch_all,
            "select code, count(*), count(case when held_at = 0 and due < $1 then 1 end) from task where open group by code order by code",
            now
        )
    }

    /// How many Tasks a search finds in all.
    pub async fn count_tasks(&mut self, wanted: &[Criterion], sight: &Sight) -> Result<i64, StoreError> {
        let mut query = Query::new("select count(*)");
        queued(&mut query, wanted, sight);
        let counted: Vec<(i64,)> = self.rows(query).await?;
        Ok(counted.first().map_or(0, |c| c.0))
    }
}

/// ` from task t, resource r where ...`: the Tasks that match and that the caller may see.
fn queued(query: &mut Query, wanted: &[Criterion], sight: &Sight) {
    // Which table leads. SQLite keeps the order of a cross join, and left alone would go through every Task resource.
    query.push(if wanted.iter().any(leads_to_resources) {
        " from resource r cross join task t where r.kind = 'Task' and t.id = r.id and not r.deleted"
    } else {
        " from task t cross join resource r where r.kind = 'Task' and r.id = t.id and not r.deleted"
    });
    for criterion in wanted {
        match criterion {
            Criterion::Queue(test) => {
                if only_open(test) {
                    // Lets the index of open Tasks be used.
                    query.push(" and t.open");
                }
                criteria::queue(query, test);
            }
            other => criteria::restrict(query, "Task", other, sight),
        }
    }
    sight.restrict(query);
}

/// Whether few resources meet this, which are then looked at before the queue.
fn leads_to_resources(criterion: &Criterion) -> bool {
    match criterion {
        Criterion::Ids(_) | Criterion::Persons(_) | Criterion::Chain { .. } | Criterion::Has { .. } => true,
        Criterion::Words { not, .. } => !not,
        Criterion::Any(any) => any.iter().all(leads_to_resources),
        _ => false,
    }
}

fn only_open(test: &QueueTest) -> bool {
    match test {
        QueueTest::Is { column: Column::Status, any, not } => !not && any.iter().all(|status| is_open_status(status)),
        _ => false,
    }
}
