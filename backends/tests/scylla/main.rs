//! The backend on a real server: the one that `TIDELOG_TEST_SCYLLA` names.

mod keyspaces;
mod smoke;
