//! What an error of the driver means for what was asked.

use std::sync::Arc;

use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};
use scylla::policies::retry::{FallthroughRetryPolicy, RetryPolicy};
use tidelog_core::Error;

use super::config::ScyllaConfig;
use super::request::{ErrorClass, WireError};

/// The driver's policy for conditional writes: the answer to a hidden second try would be "not
/// applied".
pub(crate) fn never_again() -> Arc<dyn RetryPolicy> {
    Arc::new(FallthroughRetryPolicy::new())
}

/// What a failed request means.
pub(crate) fn class(error: &ExecutionError) -> ErrorClass {
    match error {
        ExecutionError::BadQuery(_) => ErrorClass::Refused,
        ExecutionError::EmptyPlan | ExecutionError::UseKeyspaceError(_) => ErrorClass::NotSent,
        ExecutionError::ConnectionPoolError(error) => class_of_pool(error),
        ExecutionError::PrepareError(error) => class_of_preparing(error),
        ExecutionError::LastAttemptError(error) => class_of_attempt(error),
        _ => ErrorClass::Unclear,
    }
}

/// What it means that statements could not be prepared: nothing was done in any case.
pub(crate) fn class_of_preparing(error: &PrepareError) -> ErrorClass {
    let refused = matches!(error, PrepareError::AllAttemptsFailed { first_attempt, .. }
        if class_of_attempt(first_attempt) == ErrorClass::Refused);
    if refused {
        ErrorClass::Refused
    } else {
        ErrorClass::NotSent
    }
}

/// What it means that no session could be made.
pub(crate) fn class_of_connecting(error: &NewSessionError) -> ErrorClass {
    match error {
        NewSessionError::EmptyKnownNodesList | NewSessionError::IllegalConfig(_) => {
            ErrorClass::Refused
        }
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(error)) => {
            class_of_pool(error)
        }
        _ => ErrorClass::NotSent,
    }
}

fn class_of_pool(error: &ConnectionPoolError) -> ErrorClass {
    let ConnectionPoolError::Broken {
        last_connection_error: ConnectionError::ConnectionSetupRequestError(setup),
        ..
    } = error
    else {
        return ErrorClass::NotSent;
    };
    match setup.get_error() {
        ConnectionSetupRequestErrorKind::DbError(
            DbError::AuthenticationError | DbError::Unauthorized,
            _,
        )
        | ConnectionSetupRequestErrorKind::MissingAuthentication => ErrorClass::Refused,
        _ => ErrorClass::NotSent,
    }
}

fn class_of_attempt(error: &RequestAttemptError) -> ErrorClass {
    match error {
        RequestAttemptError::SerializationError(_)
        | RequestAttemptError::CqlRequestSerialization(_) => ErrorClass::Refused,
        RequestAttemptError::UnableToAllocStreamId
        | RequestAttemptError::RepreparedIdChanged { .. }
        | RequestAttemptError::RepreparedIdMissingInBatch => ErrorClass::NotSent,
        RequestAttemptError::DbError(error, _) => match error {
            DbError::SyntaxError
            | DbError::Invalid
            | DbError::Unauthorized
            | DbError::AuthenticationError
            | DbError::ConfigError
            | DbError::ProtocolError => ErrorClass::Refused,
            DbError::Unprepared { .. } => ErrorClass::NotSent,
            _ => ErrorClass::Unclear,
        },
        _ => ErrorClass::Unclear,
    }
}

/// Whether the keyspace or a table that was asked for is not there.
pub(crate) fn is_missing_schema(error: &ExecutionError) -> bool {
    let attempt = match error {
        ExecutionError::LastAttemptError(error) => error,
        ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt, .. }) => {
            first_attempt
        }
        _ => return false,
    };
    let RequestAttemptError::DbError(DbError::Invalid, text) = attempt else {
        return false;
    };
    // Cassandra; ScyllaDB.
    let text = text.to_ascii_lowercase();
    text.contains("does not exist")
        || text.contains("unconfigured table")
        || text.contains("can't find a keyspace")
        || text.contains("no keyspace")
}

/// `error` as the wire says it.
pub(crate) fn wire_error(config: &ScyllaConfig, class: ErrorClass, text: &str) -> WireError {
    let mut text = config.scrub(text);
    if class == ErrorClass::Refused && text.contains("tablets") {
        text = format!(
            "{text}; create the keyspace with tablets disabled, or use ScyllaDB 2025.4 or newer"
        )
        .into();
    }
    WireError { class, text }
}

/// `error` as users get it, `action` being what was wanted of the server.
pub(crate) fn error(config: &ScyllaConfig, action: &str, error: &ExecutionError) -> Error {
    let found = wire_error(config, class(error), &error.to_string());
    user_error(config, action, &found)
}

/// The same of an error that came over the wire.
pub(crate) fn user_error(config: &ScyllaConfig, action: &str, error: &WireError) -> Error {
    match error.class {
        ErrorClass::Refused | ErrorClass::Schema => refused(config, action, &error.text),
        ErrorClass::NotSent | ErrorClass::Unclear => Error::Unreachable {
            server: config.server(),
            action: action.into(),
            reason: error.text.clone(),
        },
    }
}

/// The server will not do `action`.
pub(crate) fn refused(config: &ScyllaConfig, action: &str, text: &str) -> Error {
    Error::ServerRefused {
        server: config.server(),
        action: action.into(),
        reason: config.scrub(text),
    }
}
