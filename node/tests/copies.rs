//! A data folder that is older than what others know, and one that runs twice.
#![allow(clippy::print_stdout, reason = "a test may print")]

use std::path::Path;

use testnet::Result;
use testnet::crash::federated::{copies, succession};

fn server() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_entente"))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_give_back_after_a_restore_is_in_order() -> Result {
    copies::restored(server()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_is_noticed_at_the_first_contact() -> Result {
    copies::put_back(server(), (8, 4), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_that_has_written_something_else_loses_nothing() -> Result {
    copies::put_back(server(), (8, 4), true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_that_has_only_received_is_noticed() -> Result {
    copies::put_back(server(), (0, 5), false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_of_the_home_of_a_group_loses_nothing() -> Result {
    let done = succession::put_back(server(), 3, 1).await?;
    println!("{done:?}");
    assert!(done.messages > 30 && done.in_chats > 30, "{done:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_node_that_runs_twice_the_second_stops() -> Result {
    copies::doubled(server()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_killed_and_started_again_is_one() -> Result {
    let longest = copies::started_again(server(), 3).await?;
    println!("heard again after {longest:?} at most");
    Ok(())
}
