//! The replica at ScyllaDB or Cassandra: the sink that makes it, and what reads it.

#![allow(dead_code, reason = "the replica lands in steps")]

pub(crate) mod judge;
