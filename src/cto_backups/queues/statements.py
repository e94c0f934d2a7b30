"""What a fleet's queue asks of Procrastinate's tables beside what its job manager does."""

from typing import Final

_OURS: Final = """
    status = 'todo' AND queue_name = ANY(%(queues)s) AND task_name = ANY(%(tasks)s)
        AND args->>'policy' = %(policy)s AND args->>'format' = %(format)s
    """
WAITING: Final = f"""
    SELECT args FROM procrastinate_jobs WHERE {_OURS} ORDER BY priority DESC, id LIMIT %(most)s
    """
# Of more than that, the first of each group that dispatch tells apart: what waits for a vault that is busy, however
# much and urgent, hides nothing that could begin at another one.
FIRST_OF_EACH: Final = f"""
    SELECT args FROM (
        SELECT args, priority, id, row_number() OVER (
            PARTITION BY args->>'at', task_name, priority ORDER BY id) AS place
        FROM procrastinate_jobs WHERE {_OURS}) ranked
    WHERE place <= %(each)s ORDER BY priority DESC, id
    """
# What a connection that was lost had taken for us is ours.
TAKE: Final = """
    UPDATE procrastinate_jobs SET status = 'doing', worker_id = %(worker)s
    WHERE (queueing_lock = %(key)s AND status = 'todo')
        OR (lock = %(key)s AND status = 'doing' AND worker_id = %(worker)s) RETURNING id
    """
# Not by its number alone: whoever was taken for dead ends nothing that another one does by now.
END: Final = """
    UPDATE procrastinate_jobs SET status = 'succeeded', attempts = attempts + 1
    WHERE id = %(id)s AND status = 'doing' AND worker_id = %(worker)s
    """
BACK: Final = """
    UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL, attempts = attempts + 1
    WHERE status = 'doing' AND worker_id = %(worker)s AND NOT id = ANY(%(but)s::bigint[])
    """
# In one statement, so that of two who do this at once none gives back what a third one has just taken.
REVIVE: Final = """
    UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL, attempts = attempts + 1
    WHERE status = 'doing' AND (worker_id IS NULL OR worker_id IN (
        SELECT id FROM procrastinate_workers WHERE last_heartbeat < now() - %(seconds)s * interval '1 second'))
    RETURNING args
    """
KNOWN: Final = """
    SELECT queueing_lock AS key FROM procrastinate_jobs WHERE status = 'todo' AND queueing_lock = ANY(%(keys)s)
    UNION ALL SELECT lock FROM procrastinate_jobs WHERE status = 'doing' AND lock = ANY(%(keys)s)
    UNION ALL SELECT j.queueing_lock FROM procrastinate_events e JOIN procrastinate_jobs j ON j.id = e.job_id
        WHERE e.id > %(mark)s AND e.type = 'succeeded' AND j.queueing_lock = ANY(%(keys)s)
    """
# What another worker put that lives may rest on what it alone has seen, such as a change on its disk.
WITHDRAW: Final = """
    DELETE FROM procrastinate_jobs
    WHERE status = 'todo' AND args->>'policy' = %(policy)s
        AND (%(places)s::text[] IS NULL OR args->>'place' = ANY(%(places)s::text[]))
        AND NOT EXISTS (SELECT 1 FROM unnest(%(keys)s::text[]) AS due (key) WHERE due.key = queueing_lock)
        AND NOT EXISTS (
            SELECT 1 FROM procrastinate_workers w
            WHERE w.id = (args->>'by')::bigint AND w.id <> %(worker)s
                AND w.last_heartbeat >= now() - %(seconds)s * interval '1 second')
    """
# What nobody has taken for a day is planned again while it is due; and a policy that is gone leaves nothing for ever.
FORGET: Final = """
    DELETE FROM procrastinate_jobs
    WHERE status = 'todo' AND (args->>'put_at')::float < extract(epoch FROM now()) - 86400
    """
OTHERS: Final = """
    SELECT args->>'policy' AS policy, args->>'format' AS format, task_name, count(*) AS many FROM procrastinate_jobs
    WHERE status = 'todo' AND queue_name = ANY(%(queues)s) AND NOT (task_name = ANY(%(tasks)s)
        AND args->>'policy' = %(policy)s AND args->>'format' = %(format)s)
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
    """
ALIVE: Final = "SELECT 1 FROM procrastinate_workers WHERE id = %(worker)s"
