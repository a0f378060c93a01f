"""The columnar engine, and all of its SQL: row rules, repeats, history, snapshots.

Values are passed as parameters, and column names are quoted. Where two forms are equivalent, the one that
Spark also understands is used.
"""

from churn.foundation.columnar.batch_rows import append_rule, count_rules, resolve_repeats, rows_of_keys
from churn.foundation.columnar.current_rows import (
    TRAINED,
    first_rows_of_values,
    select_buckets,
    write_current_rows,
)
from churn.foundation.columnar.draws import draw_customers, hash_customers, write_drawn_rows
from churn.foundation.columnar.engine import engine, scan, scan_files
from churn.foundation.columnar.history import (
    LeaversCount,
    count_disputes,
    count_final_labels,
    count_leavers,
    sample_rows,
    unite_history,
)
from churn.foundation.columnar.latest_rows import (
    BUCKETS,
    OtherKind,
    bucketed_schema,
    count_shared_customers,
    hmac_pads,
    rank_of,
    read_bucketed_rows,
    row_schema,
    sort_bucketed_rows,
    sort_columns,
    write_latest_rows,
)
from churn.foundation.columnar.panels import (
    EVENT,
    FIRST_AT,
    KIND,
    LABEL,
    LABEL_BATCH,
    LABELLED_AT,
    ROW,
    Counting,
    DateCount,
    count_by,
    count_dates,
    count_newest,
    create_counting_view,
    merge_statements,
    panel_schema,
    statement_schema,
)
from churn.foundation.columnar.row_rules import PlainLines, apply_row_rules, plain_lines

__all__ = [
    "BUCKETS",
    "EVENT",
    "FIRST_AT",
    "KIND",
    "LABEL",
    "LABELLED_AT",
    "LABEL_BATCH",
    "ROW",
    "TRAINED",
    "Counting",
    "DateCount",
    "LeaversCount",
    "OtherKind",
    "PlainLines",
    "append_rule",
    "apply_row_rules",
    "bucketed_schema",
    "count_by",
    "count_dates",
    "count_disputes",
    "count_final_labels",
    "count_leavers",
    "count_newest",
    "count_rules",
    "count_shared_customers",
    "create_counting_view",
    "draw_customers",
    "engine",
    "first_rows_of_values",
    "hash_customers",
    "hmac_pads",
    "merge_statements",
    "panel_schema",
    "plain_lines",
    "rank_of",
    "read_bucketed_rows",
    "resolve_repeats",
    "row_schema",
    "rows_of_keys",
    "sample_rows",
    "scan",
    "scan_files",
    "select_buckets",
    "sort_bucketed_rows",
    "sort_columns",
    "statement_schema",
    "unite_history",
    "write_current_rows",
    "write_drawn_rows",
    "write_latest_rows",
]
