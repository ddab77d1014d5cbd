//! Who waits for an answer: one handler for each request, and one slot for each kind of answer.

use actix::prelude::*;

use super::{
    GroupCoordinator,
    error::GroupError,
    messages::{
        CommitOffsets, CommittedOffsets, DeleteGroup, DeleteOffsets, DescribeGroup, DescribedGroup,
        FetchOffsets, FetchedOffsets, ForgetTopic, Heartbeat, JoinGroup, JoinedGroup, LeaveGroup,
        LeftGroup, ListGroups, ListedGroup, Reply, Request, SyncGroup, SyncedGroup,
    },
};
use crate::answer::{self, Answer, Answering};

macro_rules! requests {
    ($($kind:ident: $request:ident -> $answer:ty,)*) => {
        /// The slot of an answer that is owed.
        #[derive(Debug)]
        pub(super) enum Waiting {
            $($kind(Answer<Result<$answer, GroupError>>),)*
        }

        impl Waiting {
            pub(super) fn give(self, reply: Reply) {
                match (self, reply) {
                    $((Waiting::$kind(answer), Reply::$kind(reply)) => answer.give(reply),)*
                    (waiting, reply) => unreachable!("{waiting:?} is answered with {reply:?}"),
                }
            }

            pub(super) fn refuse(self, why: GroupError) {
                match self {
                    $(Waiting::$kind(answer) => answer.give(Err(why)),)*
                }
            }
        }

        $(
            impl Handler<$request> for GroupCoordinator {
                type Result = Answering<Result<$answer, GroupError>>;

                fn handle(&mut self, request: $request, ctx: &mut Self::Context) -> Self::Result {
                    let (answer, answering) = answer::later();
                    self.ask(Request::$kind(request), Waiting::$kind(answer), ctx);
                    answering
                }
            }
        )*
    };
}

requests! {
    Join: JoinGroup -> JoinedGroup,
    Sync: SyncGroup -> SyncedGroup,
    Heartbeat: Heartbeat -> (),
    Leave: LeaveGroup -> LeftGroup,
    CommitOffsets: CommitOffsets -> CommittedOffsets,
    FetchOffsets: FetchOffsets -> FetchedOffsets,
    DeleteOffsets: DeleteOffsets -> CommittedOffsets,
    ForgetTopic: ForgetTopic -> (),
    DeleteGroup: DeleteGroup -> (),
    DescribeGroup: DescribeGroup -> DescribedGroup,
    ListGroups: ListGroups -> Vec<ListedGroup>,
}
