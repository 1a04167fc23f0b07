//! The steps of the store on both engines, on PostgreSQL directly and through pgbouncer
//! in transaction mode; and replicas of the binary on PostgreSQL. The tests start a
//! server of their own.
#![expect(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop"
)]

mod accounts;
#[path = "../shared/cluster.rs"]
mod cluster;
mod commit;
mod connect;
mod copy;
mod engine;
mod keys;
#[path = "../shared/left_out.rs"]
mod left_out;
mod proxy;
mod replicas;
mod untrusted_roles;
mod upgrade;

/// Runs each contract on each engine.
macro_rules! contracts {
    ($($module:ident::$name:ident)*) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $name() {
                crate::$module::$name(&crate::engine::Engine::sqlite()).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $name() {
                if let Some(engine) = crate::engine::Engine::postgres().await {
                    crate::$module::$name(&engine).await;
                }
            })*
        }
        mod through_pgbouncer {
            $(#[tokio::test]
            async fn $name() {
                if let Some(engine) = crate::engine::Engine::pgbouncer().await {
                    crate::$module::$name(&engine).await;
                }
            })*
        }
    };
}

contracts! {
    accounts::an_account_is_found_by_its_exact_name_first
    accounts::a_name_or_a_form_of_an_address_is_given_once
    accounts::of_many_accounts_all_or_none_are_added
    accounts::the_last_word_on_an_account_is_kept_with_its_reason
    accounts::a_sign_in_of_a_disabled_or_deleted_account_leaves_nothing
    accounts::a_sign_in_by_a_hash_that_was_replaced_meanwhile_leaves_nothing
    accounts::each_of_many_sign_ins_at_once_leaves_its_row
    accounts::of_many_that_take_a_name_at_once_one_gets_it
    accounts::sign_ins_are_pruned_by_id_time_and_address
    keys::a_key_is_read_as_it_was_written
    keys::a_refused_change_changes_nothing
    keys::of_many_that_find_a_key_due_one_inserts_it
    keys::a_revoked_key_stays_revoked
    keys::what_others_must_see_moves_the_counter_and_nothing_else_does
    keys::a_withdrawn_key_stays_out
    keys::pruning_keeps_the_key_that_is_named
    keys::the_longest_lifetime_stays_recorded
    keys::an_adopted_key_is_kept_until_its_end_and_a_revoked_one_never_comes_back
}
