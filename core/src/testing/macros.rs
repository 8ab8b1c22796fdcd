//! The list of all laws, and the macro that makes a test of each.

/// One `#[test]` a law, in a module a group: see [`testing`](crate::testing).
///
/// `conformance_tests!(module_name, harness expression; group, group, …);`: the expression is
/// evaluated anew for every test.
#[macro_export]
macro_rules! conformance_tests {
    ($name:ident, $harness:expr; $($group:ident),+ $(,)?) => {
        mod $name {
            $(mod $group {
                #[allow(unused_imports, reason = "what the harness expression needs")]
                use super::super::*;
                $crate::conformance_group!($group, $harness);
            })+
        }
    };
}

/// The tests of one group; use [`conformance_tests!`](crate::conformance_tests).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_group {
    (store, $harness:expr) => {
        $crate::conformance_laws!($harness; store:
            sequences_are_dense_from_one
            events_keep_the_order_of_their_appends
            an_unknown_stream_is_empty
            head_is_the_newest_event
            acknowledged_events_are_visible_to_every_handle
            appends_of_every_durability_share_one_order
            every_event_names_its_batch
            readers_never_see_part_of_a_batch
            a_refused_batch_leaves_nothing
            every_expectation_that_holds_is_accepted
            every_expectation_that_misses_writes_nothing
            look_alike_names_are_different_streams
            event_ids_count_within_their_stream
            recorded_times_never_go_back
            a_closed_store_answers_closed
        );
        $crate::conformance_laws!($harness; retry:
            a_literal_retry_gets_the_first_receipt
            a_retry_after_other_appends_gets_the_first_receipt
            a_retry_is_recognized_whatever_it_expects
            a_retry_may_carry_other_times_and_metadata
            known_ids_with_other_content_conflict
            known_ids_in_another_order_conflict
            known_ids_that_do_not_stand_together_conflict
            known_ids_beside_new_ones_conflict
            new_ids_with_known_content_are_appended
            ids_of_a_refused_append_stay_new
            duplicates_in_flight_are_appended_once
            clashing_ids_in_flight_conflict
            the_retry_window_ends_where_it_says
            a_batch_on_the_edge_of_the_window_conflicts
            implied_sequences_are_recognized_for_ever
            an_id_that_stands_twice_is_found_where_it_is_implied
            the_largest_batch_is_recognized
            events_are_found_by_their_id
        );
        $crate::conformance_laws!($harness; limits:
            the_payload_limit_is_exact
            the_metadata_limit_is_exact
            the_batch_event_limit_is_exact
            the_batch_byte_limit_is_exact
            the_largest_default_batch_is_taken
            the_longest_default_batch_is_taken
            the_name_limits_are_exact
            impossible_appends_are_invalid_input
        );
        $crate::conformance_laws!($harness; reads:
            queries_select_what_they_say
            long_streams_are_read_whole
            all_ways_of_reading_agree
            a_read_is_pinned_when_it_is_asked_for
            reads_may_be_dropped_and_moved
            every_field_comes_back_unchanged
            payloads_of_every_size_come_back_unchanged
            content_types_come_back_unchanged
            event_times_come_back_unchanged
            revisions_and_ids_come_back_unchanged
            much_metadata_comes_back_unchanged
            many_event_types_are_told_apart
            an_adopted_event_keeps_its_birth
        );
        $crate::conformance_laws!($harness; racing:
            one_writer_wins_each_sequence
            one_writer_creates_a_stream
            writers_of_different_streams_all_succeed
            writers_without_expectations_all_succeed
            appends_in_flight_are_answered_each
        );
        $crate::conformance_laws!($harness; cancellation:
            an_append_never_polled_does_nothing
            an_append_dropped_in_flight_is_whole_or_absent
            a_thousand_appends_dropped_at_once_are_whole_or_absent
            dropped_appends_leave_no_holes
            an_append_may_move_between_threads
            other_calls_may_be_dropped_in_flight
        );
    };
    (multi_stream, $harness:expr) => {
        $crate::conformance_laws!($harness; multi_stream:
            all_parts_are_recorded
            all_parts_are_one_batch
            one_part_is_an_append
            one_miss_refuses_all_parts
            one_fault_refuses_all_parts
            limits_count_over_all_parts
            a_retry_of_all_parts_gets_the_first_receipts
            some_parts_recorded_conflict
            other_content_in_one_part_conflicts
            duplicate_batches_in_flight_are_recorded_once
            racing_batches_keep_their_streams_together
            a_dropped_batch_is_in_all_streams_or_none
            a_closed_store_takes_no_parts
        );
    };
    (log, $harness:expr) => {
        $crate::conformance_laws!($harness; log:
            positions_are_dense_in_append_order
            an_empty_log_has_no_last_position
            appends_that_write_nothing_take_no_positions
            batches_are_named_by_position
            the_log_and_the_streams_agree
            log_queries_select_what_they_say
            long_logs_are_read_whole
            a_log_read_is_pinned_when_it_is_asked_for
            no_visible_position_is_ever_missing
            recorded_times_rise_along_the_log
            a_closed_log_answers_closed
            many_streams_make_one_log
            a_log_has_one_identity
        );
        $crate::conformance_laws!($harness; subscriptions:
            a_subscription_catches_up_and_goes_on
            a_subscription_starts_after_any_place
            a_place_ahead_of_the_log_is_refused
            subscriptions_and_reads_deliver_the_same
            a_stream_subscription_delivers_its_stream
            the_seam_between_past_and_present_is_tight
            no_wake_up_is_lost
            a_slow_subscriber_misses_nothing
            a_hundred_subscribers_each_get_everything
            dropping_ends_a_subscription_only
            a_dropped_wait_loses_nothing
            a_subscription_may_move_between_threads
            closing_ends_subscriptions
            the_last_handle_gone_ends_subscriptions
        );
    };
    (superseding, $harness:expr) => {
        $crate::conformance_laws!($harness; superseding:
            the_newest_events_give_way
            a_stream_may_only_end_earlier_or_only_go_on
            a_stream_that_has_moved_on_is_left_alone
            impossible_supersessions_are_refused
            a_read_from_before_sees_what_was_there
            queries_select_of_what_the_stream_is_now
            ids_that_gave_way_are_refused
            ids_that_took_their_place_are_recognized
            an_append_may_name_the_event_it_follows
            a_subscription_to_what_gave_way_ends
            the_log_goes_on_over_it
            a_snapshot_of_what_gave_way_is_gone
            racing_supersessions_win_each_head_once
        );
    };
    (superseding_persistence, $harness:expr) => {
        $crate::conformance_laws!($harness; superseding:
            what_gave_way_stays_so_after_a_reopen
        );
    };
    (snapshots, $harness:expr) => {
        $crate::conformance_laws!($harness; snapshots:
            there_is_no_snapshot_at_first
            a_snapshot_comes_back_unchanged
            snapshots_are_kept_by_stream
            a_later_snapshot_replaces_an_earlier_one
            an_earlier_snapshot_never_replaces_a_later_one
            a_newer_revision_replaces_an_older_one
            a_snapshot_never_runs_ahead_of_its_stream
            the_snapshot_limit_is_exact
            snapshots_leave_streams_alone
            the_latest_of_racing_snapshots_stays
            a_closed_store_has_no_snapshots
        );
    };
    (persistence, $harness:expr) => {
        $crate::conformance_laws!($harness; persistence:
            an_empty_store_reopens_empty
            everything_is_there_after_a_reopen
            sequences_go_on_after_a_reopen
            retries_are_recognized_after_a_reopen
            the_retry_window_reaches_across_a_reopen
            recorded_times_do_not_go_back_across_a_reopen
            a_large_batch_survives_a_crash
            appends_in_flight_at_a_crash_are_whole_or_absent
            many_streams_are_found_after_a_reopen
        );
    };
    (log_persistence, $harness:expr) => {
        $crate::conformance_laws!($harness; persistence:
            positions_go_on_after_a_reopen
            subscriptions_resume_by_position
            a_log_keeps_its_identity
        );
    };
    (multi_stream_persistence, $harness:expr) => {
        $crate::conformance_laws!($harness; persistence:
            batches_of_several_streams_are_whole_after_a_reopen
        );
    };
    (snapshot_persistence, $harness:expr) => {
        $crate::conformance_laws!($harness; persistence:
            snapshots_are_the_same_or_gone_after_a_reopen
        );
    };
    (rows, $harness:expr) => {
        $crate::conformance_laws!($harness; row_stores:
            an_unknown_model_has_no_slots
            a_new_slot_is_empty_and_being_built
            rows_and_checkpoint_are_one_step
            a_commit_without_changes_moves_the_checkpoint
            rows_are_counted
            spaces_slots_and_models_are_apart
            entries_come_in_byte_order
            ranges_and_limits_are_exact
            values_of_every_size_come_back
            many_rows_are_kept
            what_one_call_reads_is_one_commit
            activating_is_one_step
            a_slot_begun_anew_replaces_the_one_being_built
            a_removed_model_is_gone
            a_renewed_store_has_no_rows_and_keeps_new_ones
            impossible_model_names_are_refused
            work_is_done_where_it_may_block
            a_closed_store_has_no_rows
        );
    };
    (checkpoints, $harness:expr) => {
        $crate::conformance_laws!($harness; checkpoints:
            nothing_is_saved_at_first
            what_was_saved_is_loaded
            names_are_listed_and_removed
            a_name_is_claimed_once
            impossible_listener_names_are_refused
            no_checkpoint_is_ahead_of_its_log
            the_checkpoint_limit_is_exact
            a_dropped_save_leaves_one_or_the_other
            a_closed_store_has_no_checkpoints
        );
    };
    (row_persistence, $harness:expr) => {
        $crate::conformance_laws!($harness; row_stores:
            looking_at_slots_may_be_cancelled
            slots_are_whole_or_gone_after_a_reopen
            each_slot_is_what_it_was_after_a_reopen
        );
    };
    (checkpoint_persistence, $harness:expr) => {
        $crate::conformance_laws!($harness; checkpoints:
            saved_checkpoints_survive_a_reopen
        );
    };
}

/// The tests of one file; use [`conformance_tests!`](crate::conformance_tests).
#[doc(hidden)]
#[macro_export]
macro_rules! conformance_laws {
    ($harness:expr; $file:ident: $($law:ident)+) => {
        $(#[test]
        fn $law() {
            $crate::testing::$file::$law(&mut $harness);
        })+
    };
}

#[cfg(test)]
mod tests {
    /// A law that is written but not listed would never run.
    #[test]
    fn every_law_is_listed() {
        let listed = include_str!("macros.rs");
        let files = [
            include_str!("cancellation.rs"),
            include_str!("checkpoints.rs"),
            include_str!("limits.rs"),
            include_str!("log.rs"),
            include_str!("multi_stream.rs"),
            include_str!("persistence.rs"),
            include_str!("racing.rs"),
            include_str!("reads.rs"),
            include_str!("retry.rs"),
            include_str!("row_stores.rs"),
            include_str!("snapshots.rs"),
            include_str!("store.rs"),
            include_str!("subscriptions.rs"),
            include_str!("superseding.rs"),
        ];
        let laws = files
            .iter()
            .flat_map(|file| file.lines())
            .filter_map(|line| line.strip_prefix("pub fn "))
            .filter_map(|rest| rest.split(['(', '<']).next());
        for law in laws {
            let line = format!("            {law}");
            assert!(listed.lines().any(|l| l == line), "{law} is not listed");
        }
    }
}
