/*
 * The state process: the only opener of the control db and of auth.db. Answers
 * who serves whom, learns accounts, leases jobs, orders hold and release, runs
 * the administrator's commands. This header is for its own parts:
 *
 *   state.c          opening, recovery, what a turn writes and then says
 *   state_peers.c    connections and the processes behind them
 *   state_routes.c   ask, learn, confirm
 *   state_jobs.c     lease, progress, done
 *   state_credentials.c  the passwords of accounts
 *   state_results.c  what the end of a job means for its account
 *   state_gate.c     what a report means for the gate before the flip
 *   state_brake.c    freezes, admission, windows
 *   state_flip.c     hold, quiet, last pass, release; forth and back
 *   state_back.c     the way back, before its hold and after it
 *   state_close.c    the end of a domain's trails
 *   state_strangers.c  who gets mail on legacy and is no account
 *   state_on_flip.c  the domain's command after a flip
 *   state_witness.c  the witness journal in the store
 *   state_keys.c     wrapping seals to a newer key
 *   state_control.c  the control socket
 *
 * Nothing is said before it is on disk: state_send() and state_after() wait for
 * the commit at the end of the turn, and keep their order. A commit that fails
 * ends the process; it starts again from what is on disk.
 */
#ifndef DAEMON_STATE_H
#define DAEMON_STATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "account/admission.h"
#include "account/lifecycle.h"
#include "account/provision.h"
#include "account/route.h"
#include "base/channel.h"
#include "base/loop.h"
#include "daemon/role.h"
#include "daemon/schedule.h"
#include "db/accounts.h"
#include "db/credentials.h"
#include "db/domains.h"
#include "db/jobs.h"
#include "migrator/report.h"

struct command;
struct state;

/* A login, smtp or jobs process: as master announced it, as it connected, or
   both. */
struct state_peer {
    struct state_peer *next;
    struct state *state;
    pid_t pid; /* 0 before it said hello */
    char role[16];
    bool is_announced; /* master says it lives */
    json_t *counts;    /* owned; what it has counted; NULL: nothing */
    json_t *owed;      /* owned; what to say when it connects; NULL: none */
    struct channel *channel; /* owned; NULL while not connected */
};

enum flip_purpose {
    FLIP_FORTH, /* from legacy to local */
    FLIP_BACK,  /* from local to legacy */
    FLIP_PURPOSE_COUNT
};

/* An account that is held. */
struct state_flip {
    struct state_flip *next;
    struct state *state;
    int64_t account_id;
    char address[ADDRESS_MAX];
    int64_t epoch; /* of the hold */
    enum flip_purpose purpose;
    enum flip_phase {
        FLIP_QUIETING, /* hold is sent, quiet is awaited */
        FLIP_COPYING,  /* the last pass */
        FLIP_TELLING,  /* committed; local is being told */
        FLIP_PHASE_COUNT
    } phase;
    int64_t began_ms; /* loop time */
    int64_t quiet_ms; /* length of the first share */
    int64_t share_ms; /* of everything until the flip */
    pid_t *quiet;     /* owned; who has answered */
    unsigned quiet_count;
    bool wants_trail;
    struct timer *timer; /* owned */
};

/* A job that is leased. */
struct state_job {
    struct state_job *next;
    struct job job;
    struct state_peer *owner; /* borrowed; its closing frees the lease */
    int64_t heard_ms;         /* loop time of the last sign of life */
    enum job_fate {
        JOB_FATE_OWN,     /* its end is what its worker says */
        JOB_FATE_DROPPED, /* cancelled; what it says counts no more */
        JOB_FATE_ASLEEP   /* cancelled by a freeze; it is done again after it */
    } fate;
    char *master; /* owned; whom it looks at, see state_jobs.c; NULL: nobody */
    bool has_progress; /* below is not yet in the row */
    struct migration_report progress;
};

/* An answer that waits: for a release, or (learn) for a hash. */
struct state_parked {
    struct state_parked *next;
    struct state_peer *peer; /* borrowed */
    int64_t id;              /* of the question */
    int64_t account_id;
    enum route_service service;
    bool is_learn;
    int64_t until_ms; /* loop time */
    char typed[ADDRESS_MAX];
};

/* A verify that an administrator waits for. */
struct state_client {
    struct state_client *next;
    struct state *state;
    struct channel *channel; /* owned; NULL: it comes over the admin role */
    struct state_peer *peer; /* borrowed; the admin role; NULL: it has gone */
    int64_t id;              /* of the admin role's question */
    int64_t verifies;        /* account id; 0: none */
    int64_t sets_password;   /* the same */
    bool keeps_others;
    int64_t asked_at; /* Unix ms */
};

struct state_close;   /* of a domain; see state_close.c */
struct state_command; /* of a domain, after a flip; see state_on_flip.c */
struct state_keys;    /* see state_keys.c */
struct state_said;    /* what waits for the commit */
struct state_witness; /* the journal and its writer */
typedef void state_account_fn(struct state *s, int64_t account_id);

struct state {
    struct role *role; /* borrowed, as what it holds */
    struct loop *loop;
    const struct conf *conf;
    struct db *db;                 /* owned */
    struct provision *provision;   /* owned */
    struct watch *accepts[2];      /* owned; state.sock, control.sock */
    struct timer *tick;            /* owned; every second */
    struct timer *due;             /* owned; the next job */
    struct state_witness *witness; /* owned; NULL: there is no store */
    int64_t refused;  /* accounts of which the store knows more than the db */
    bool refuses_all; /* it cannot be told of whom */
    bool are_peers_known;
    bool is_full;         /* no room on the disk: questions are answered, and
                             nothing is written */
    char *kept_lines;     /* owned; the folder of base/log_keep.h */
    int64_t pruned_ms;    /* loop time of the last look there */
    bool is_unsettled;    /* local could not be told of an account */
    bool has_untold;      /* of this pass: local does not take somebody */
    struct timer *settle; /* owned; the next accounts that local is told of */
    int64_t settle_from_ms, settle_pause_ms; /* loop time of the next pass */
    uint64_t auth_applied; /* as far as auth.db's changes are noted */
    int64_t settled_to;    /* account id */
    bool is_turn_ending;   /* scheduled */
    bool is_waking;        /* the queue is looked at after the commit */
    struct state_said *said, **said_end;
    struct state_peer *peers;
    struct state_flip *flips;
    struct state_job *jobs;
    struct state_parked *parked;
    struct state_client *clients;
    struct state_command *commands;
    json_t *host_failures; /* owned; old server -> failed jobs in a row */
    json_t *gone_counts;   /* owned; what ended processes had counted */
    struct state_bucket *buckets; /* owned; of domains with a rate */
    struct timer *sweep;          /* owned; NULL before the first freeze */
    int64_t swept_to;             /* account id */
    struct state_close *closes;
    struct timer *ends;      /* owned; the next trails of closed domains */
    bool has_ends;           /* there may be such trails */
    struct state_keys *keys; /* owned */
    json_t *good_masters;    /* those of old servers that were looked at */
    json_t *full_trails;     /* account id -> Unix ms of the last full pass */
    json_t *unclean; /* account id -> passes with differences in a row */
};

/* --- state.c */
/* Something is about to be written in this turn. */
void state_write(struct state *s);
/* Say it once this turn's writes are on disk. message is taken. */
void state_send(struct state *s, struct state_peer *peer, json_t *message);
void state_after(struct state *s, void (*fn)(struct state *s, int64_t id),
                 int64_t id);
/* Commit what this turn has written so far, and say what waits for it. */
void state_settle(struct state *s);
/* The peer is going: nothing more is sent to it. */
void state_forget_peer(struct state *s, const struct state_peer *peer);
/* An operation on the control db failed: the end of this process. */
void state_must(int rc, const struct err *err);
void state_audit(struct state *s, int64_t account_id, const char *event,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
/* What a row was (NULL: it is new) and is, before it is stored. */
void state_audit_change(struct state *s, const struct account *was,
                        const struct account *is, const char *event,
                        const char *why);
/* The row, and its domain (may be NULL); false if it is gone. */
bool state_load(struct state *s, int64_t account_id, struct account *account,
                struct domain *domain);
void state_store(struct state *s, struct account *account);
/* Apply the lifecycle's event to the row and store it, with an audit entry;
   false (and a log line) if it is not legal. */
bool state_change(struct state *s, struct account *account,
                  enum account_event event, const char *why);
/* --- state_local.c */
/* Make local know the account as its row is now, after the commit. */
void state_provision_later(struct state *s, int64_t account_id);
/* The same at once, and its epoch stored; false if local could not be told. */
bool state_provision(struct state *s, struct account *account);
/* Look whether auth.db is what we have written, and begin to tell local of
   everyone whose row is newer than what it knows. */
void state_local_start(struct state *s);
void state_local_tick(struct state *s);
/* Before a commit of the control db: how far auth.db has come. */
void state_local_note(struct state *s);

/* --- state_peers.c */
/* Take an accepted connection of state.sock. */
void state_peers_accept_take(struct state *s, int fd);
void state_peers_announce(struct state *s, const char *role, pid_t pid,
                          bool is_alive);
/* Send a copy of message (taken) to every connected login and smtp process. */
void state_peers_tell(struct state *s, json_t *message);
/* To the same, after the commit: the account's running sessions end. service:
   "login", "submission" or "all"; reason: a word for the session's line. */
void state_peers_kick(struct state *s, const struct account *account,
                      const char *service, const char *reason);
/* The same: passwords that were seen to be good are asked of local again. Where
   local has another password already nothing depends on it: see the version in
   an answer. */
void state_peers_forget(struct state *s, const struct account *account);
/* Whether the process serves users, so that its quiet is needed. */
bool state_peer_serves(const struct state_peer *peer);

/* --- state_routes.c */
void state_routes_ask(struct state *s, struct state_peer *peer,
                      const json_t *message);
void state_routes_learn(struct state *s, struct state_peer *peer,
                        const json_t *message);
void state_routes_confirm(struct state *s, int64_t account_id);
/* The account is held no more: answer who waits. */
void state_routes_release(struct state *s, int64_t account_id);
/* Its hash is with local (or will not be): answer who learnt it. */
void state_routes_hashed(struct state *s, int64_t account_id);
void state_routes_forget_peer(struct state *s, const struct state_peer *peer);
void state_routes_tick(struct state *s);

/* --- state_jobs.c */
void state_jobs_lease(struct state *s, struct state_peer *peer,
                      const json_t *message);
void state_jobs_progress(struct state *s, struct state_peer *peer,
                         const json_t *message);
void state_jobs_done(struct state *s, struct state_peer *peer,
                     const json_t *message);
void state_jobs_forget_peer(struct state *s, const struct state_peer *peer);
void state_jobs_tick(struct state *s);
/* Queue a job, and have it leased when it is due. */
void state_jobs_queue(struct state *s, const struct account *account,
                      const struct domain *domain, enum job_kind kind,
                      int64_t due_at);
/* Look at the queue again: something may be due. */
void state_jobs_wake(struct state *s);
/* End the leased jobs of an account (kind -1: of every kind), and drop those
   of that kind that wait. */
void state_jobs_stop(struct state *s, int64_t account_id, int kind);

/* End the workers of first copies and deltas of frozen domains. */
void state_jobs_freeze(struct state *s);

/* --- state_brake.c */
/* Freezes were made or ended, or a domain has changed: what runs is ended now,
   in the transaction of this turn; what waits follows. */
void state_brake_freezes_changed(struct state *s);
/* What waits follows the freezes: at the start. */
void state_brake_follow(struct state *s);
/* Fill in what decides whether somebody unknown is taken in. */
void state_brake_ask(struct state *s, const struct domain *d,
                     const char *address, struct route_question *q);
/* Somebody was. */
void state_brake_taken_in(struct state *s, const struct domain *d);
/* What schedule_flip() has to know of this moment. */
struct flip_moment state_brake_moment(const struct state *s,
                                      const struct domain *d);

/* --- state_credentials.c */
/* Whether a hash is to be made; of which credential (0: the first password). */
bool state_credentials_to_hash(struct state *s, const struct account *a,
                               int64_t *credential_out);
/* The sealed passwords that the job needs, into its message. */
void state_credentials_put(struct state *s, const struct job *job,
                           const struct account *a, const struct domain *d,
                           json_t *message);
/* Whether what legacy accepts is to be taken over: always before the flip, for
   learn_days after it, never again once an operator has set a password. */
bool state_credentials_may_learn(const struct account *a,
                                 const struct domain *d);
/* Legacy has accepted this password: it becomes one more of the account's,
   unless it turns out to be one we know. False: too many at once, nothing is
   done. Stores the row. */
bool state_credentials_learn(struct state *s, struct account *a,
                             const struct domain *d, const struct seal *seal,
                             const char *via);
/* A password that an operator sets: in force, and alone, once it has its hash
   and local knows it. */
struct local_password {
    const struct seal *seal;
    const char *label;
    bool keeps_others;
};
void state_credentials_set(struct state *s, struct account *a,
                           const struct domain *d,
                           const struct local_password *password);
/* The end of a job that makes a hash. */
void state_credentials_hashed(struct state *s, struct account *a,
                              const struct domain *d, const json_t *message,
                              const struct err *outcome);
/* What legacy has refused before the flip counts no more; what it accepted is
   asked first the next time. The caller stores the row. */
void state_credentials_sort(struct state *s, struct account *a,
                            const struct migration_report *report);

/* --- state_results.c */
/* What the worker's report means for the account; the job is not ended yet.
   kind ERR_NONE: it went well. */
void state_results_take(struct state *s, const struct job *job,
                        const json_t *message, const struct err *outcome);
void state_results_count(struct account *account,
                         const struct migration_report *report);

/* --- state_gate.c */
/* Take over the names of what the report sets aside, and how many of them are
   accepted; the caller stores the row. */
void state_gate_name(struct state *s, struct account *account,
                     const struct migration_report *report);
/* Put what the report found different into the row's last_error; the caller
   stores it. */
void state_gate_tell(struct account *account,
                     const struct migration_report *report, const char *when);
/* What a delta's report leaves between the account and its flip; the row has
   the reason in plain words, and is not stored. */
enum flip_gate state_gate_judge(struct state *s, struct account *account,
                                const struct domain *domain,
                                const struct migration_report *report,
                                const struct flip_moment *moment);
/* What a pass is to find out besides copying: "verify", "ask_local". */
void state_gate_options(const struct state *s, const struct job *job,
                        const struct account *account,
                        const struct domain *domain, json_t *options);

/* --- state_flip.c */
/* Begin the hold, in the transaction of this turn. */
void state_flip_begin(struct state *s, struct account *account,
                      const struct domain *domain, enum flip_purpose purpose);
/* A way back found held at the start is local again: local is told, and who
   asks until then waits as in a hold. */
void state_flip_end(struct state *s, const struct account *account,
                    const struct domain *domain);
void state_flip_quiet(struct state *s, struct state_peer *peer,
                      const json_t *message);
void state_flip_busy(struct state *s, const struct state_peer *peer,
                     const json_t *message);
/* The last pass has ended. */
void state_flip_copied(struct state *s, const struct job *job,
                       const struct migration_report *report,
                       const struct err *outcome);
/* Give up the holds of frozen domains that have not flipped yet; no failure. */
void state_flip_freeze(struct state *s);
/* A peer has come (it hears of the holds) or gone (nobody waits for it). */
void state_flip_peer_came(struct state *s, struct state_peer *peer);
void state_flip_peer_went(struct state *s, pid_t pid);
struct state_flip *state_flip_of(const struct state *s, int64_t account_id);
unsigned state_flip_count(const struct state *s);

/* --- state_close.c */
/* `domain close` of the control socket, and how far it is. */
int state_close_begin(struct state *s, struct command *c, const json_t *request,
                      json_t **result_out, struct err *err);
int state_close_progress(struct state *s, struct command *c,
                         const json_t *request, json_t **result_out,
                         struct err *err);
/* The trail of this account is being leased. True if its domain is being
   closed: the pass must go through every folder. */
bool state_close_leased(struct state *s, int64_t account_id);
/* A pass of its trail has ended. */
void state_close_trailed(struct state *s, const struct account *account,
                         const struct err *outcome);
void state_close_tick(struct state *s);
/* Whether trails of the domain have their last pass just now. */
bool state_close_runs(struct state *s, int64_t domain_id);

/* --- state_strangers.c */
/* A process tells for whom legacy has taken mail though he is no account. */
void state_strangers_count(struct state *s, struct state_peer *peer,
                           const json_t *message);

/* --- state_on_flip.c */
/* The flip is about to be written: the domain's command, if it has one, is due
   with it. */
void state_on_flip_due(struct account *account, const struct domain *domain,
                       int64_t now);
/* Start what is due; only so many run at once. */
void state_on_flip_run(struct state *s);
/* A child of this process may have ended. */
void state_on_flip_reap(struct state *s);

/* --- state_metrics.c */
/* What a process has counted; and, when it has gone, what stays of it. */
void state_metrics_counts(struct state_peer *peer, const json_t *message);
void state_metrics_forget_peer(struct state *s, const struct state_peer *peer);
/* How a job towards this old server has ended. */
void state_metrics_job(struct state *s, const struct job *job,
                       const struct err *outcome);
/* All of it, for the admin role. */
void state_metrics_answer(struct state *s, struct state_peer *peer,
                          const json_t *message);

/* --- state_back.c */
/* The first pass of a way back has ended, while local serves. */
void state_back_passed(struct state *s, struct account *account,
                       const struct domain *domain,
                       const struct migration_report *report,
                       const struct err *outcome);
/* Its hold is over and the row is local again: once more after wait_ms. */
void state_back_given_up(struct state *s, const struct account *account,
                         const struct domain *domain, int64_t wait_ms);
/* The last pass has ended well: write what legacy serves from now on. False:
   not legal. */
bool state_back_commit(struct state *s, struct account *account,
                       const struct domain *domain,
                       const struct migration_report *report);

/* --- state_witness.c */
/* Compare the journal with the db, and note who is refused. */
void state_witness_start(struct state *s);
/* Whether the last change of the account's route is in the journal, on disk;
   before that nobody may be told of it. WRITING: it is being written, and fn is
   called once it is, or is not. FAILED: it could not be written, and is tried
   again when asked again. Nothing to ask for gives KEPT. */
enum state_witness_word { WITNESS_KEPT, WITNESS_WRITING, WITNESS_FAILED };
enum state_witness_word state_witness_ask(struct state *s,
                                          const struct account *account,
                                          state_account_fn *fn);
/* Its side has been told: nobody will ask again. */
void state_witness_told(struct state *s, int64_t account_id);
/* Keep the settings of the domains in the journal, if they have changed; only:
   one that has, NULL: any. */
void state_witness_domains(struct state *s, const char *only);
/* The db is older than the store in what it says of this address: that is told
   to nobody. */
bool state_witness_refuses(const struct state *s, const char *address);

/* --- state_keys.c */
/* Master has these sealing keys now: "keys" of account/wire.h. */
void state_keys_take(struct state *s, const json_t *message);
/* Whether a seal that comes now can be opened later. */
bool state_keys_knows(struct state *s, const struct seal *seal);
/* The seal in a command's request, if there is one: ERR_RETRY if it is of
   another key. */
int state_keys_check(struct state *s, const json_t *request, struct err *err);
/* The id of the newest key, as `key show` has it; "" : not known yet. */
void state_keys_newest(struct state *s, char *out, size_t size);
/* Which key whoever gets the message must have. */
void state_keys_put_newest(struct state *s, json_t *message);
void state_keys_rewrapped(struct state *s, const json_t *message);
void state_keys_tick(struct state *s);
/* How far a rotation is. New reference. */
json_t *state_keys_json(struct state *s);

/* --- state_control.c */
void state_control_accept_take(struct state *s, int fd);
/* A command that has come to the admin role, with the caller's uid. */
void state_control_command(struct state *s, struct state_peer *peer,
                           const json_t *message);
void state_control_forget_peer(struct state *s, const struct state_peer *peer);
/* No more hash of the account is to be made: who has set a password hears. */
void state_control_hashed(struct state *s, int64_t account_id);
/* A verify has ended. */
void state_control_verified(struct state *s, const struct account *account,
                            const struct migration_report *report,
                            const struct err *outcome);

#endif
