/*
 * The messages between the roles and the state process, as JSON objects in the
 * frames of base/channel.h. Field "m" is the message, "id" the number of a
 * question; unknown fields are ignored, so that two generations of daemons may
 * talk. Binary fields are base64. This file is the list; both sides use it.
 *
 * login, smtp -> state
 *   hello    role, pid                         once, first
 *   ask      id, service (login|mail), name    -> answer, when not held
 *   learn    id, name, legacy_user, via, prefix?, separator?,
 *            uidvalidity? (of legacy's INBOX), key, blob
 *                                              -> answer
 *   confirm  account
 *   quiet    account, epoch, trail (bool)
 *   busy     account, epoch                    the hold cannot begin now
 *   counts   series: {"name{labels}": value}   all that this process has
 *                                              counted (base/tally.h), every
 *                                              2 s while it changes
 *   stranger addresses (object: address -> mails since the last one), smtp
 *            only: no accounts, and legacy took mail for them -> counted
 * state -> login, smtp
 *   answer   id, answer, account, address, epoch, password_state, legacy_user,
 *            local_user, imap, pop3, smtp (URLs; absent: none),
 *            version (of the passwords local takes, when it serves; 0 or
 *            absent: nobody can tell), ask_legacy (bool: what local refuses
 *            is to be asked of legacy, and learnt)
 *   hold     account, address, epoch, quiet_within_ms,
 *            side (legacy|local)               which one must become quiet
 *   release  account, epoch
 *   kick     account, address, service (login|submission|all), reason
 *                                              its sessions end now, those too
 *                                              that began before there was an
 *                                              account of that address; what is
 *                                              logging in asks again
 *   forget   account, address                  no password of it that was seen
 *                                              to be good counts any more
 *   counted                                    what stranger told is taken
 *   welcome                                    after hello, once every hold in
 *                                              force has been sent: any other
 *                                              hold this process remembers is
 *                                              over. Every other message but
 *                                              hold says the same.
 *
 * jobs -> state
 *   hello    role ("jobs"), pid
 *   lease    free (workers that could start), urgent (of the kinds final and
 *            hash besides, leased with per_host 0) -> any number of job
 *   progress job, folders, messages, bytes, messages_total, bytes_total
 *                                              also the heartbeat, every 2 s
 *   done     job, kind (err kind or "none"), text, and the report of
 *            migrator/report.h as an object; for hash: hash, match,
 *            and credential, of, known as they came
 *   rewrapped  question (as it came), seals (array of {place, id, was, key;
 *            or lost})
 * admin -> state
 *   hello    role ("admin"), pid
 *   metrics  id                                -> metrics
 *   command  id, uid (of the caller), request  -> commanded
 * state -> admin
 *   metrics  id, series ({"name{labels}": value}), facts: is_full,
 *            peers_known, refused, hosts_down (array of URLs)
 *   commanded id, answer (as on the control socket)
 * state -> jobs
 *   wake     something is due: lease again
 *   job      job, kind, account, epoch, attempts, address, legacy_user,
 *            key, blob (the first password; absent: none sealed), more (array
 *            of {credential, key, blob}: the others), master? ({key, blob}),
 *            master_user?, master_login?, prefix?, separator?,
 *            mailbox_id? (account/mailbox_id.h), imap, pop3
 *            (URLs), domain_pop3 (bool), options (object, among them verify:
 *            compare both sides at the end; ask_local; check_master),
 *            newest? (id of the newest sealing key: who has another one gives
 *            the job back)
 *            of kind hash: key, blob, credential, of, hashes, known
 *   cancel   job                               end its worker, then done
 *
 *   rewrap   newest (id), question (a number), seals (array of {place, id,
 *            address, key, blob})
 *                                              by who has that newest key
 *   forget_keys  newest (id)                   older ones are not needed
 *
 * master -> state
 *   peer     role, pid, alive (bool)           every login and smtp process
 *                                              that runs or drains
 *   peers_known                                the list is complete now
 *   keys     public_key, ids (array of {id})   of the sealing keys, newest
 *                                              first
 * state -> master
 *   old_keys_unused  newest (id)               no seal needs an older one
 * master -> each role
 *   role     first: what the role may know; see daemon/role.h
 *   drain    end when the last session or job has ended
 * each role -> master
 *   ready    it serves
 * jobs -> master
 *   spawn    id, maildir_owner                 a worker
 * master -> jobs
 *   spawned  id, pid (0: error text)           with the worker's socket as fd
 *   exited   pid, status
 */
#ifndef ACCOUNT_WIRE_H
#define ACCOUNT_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account/seal.h"
#include "base/err.h"

/* The string value of a field; NULL if absent or no string. Borrowed. */
const char *wire_text(const json_t *message, const char *field);
/* The integer value; `missing` if absent or no integer. */
int64_t wire_int(const json_t *message, const char *field, int64_t missing);
bool wire_bool(const json_t *message, const char *field);

/* Put and take bytes as base64. wire_bytes returns the length, -1 if absent,
   malformed or longer than size. */
void wire_put_bytes(json_t *message, const char *field, const void *bytes,
                    size_t length);
long wire_bytes(const json_t *message, const char *field, void *out,
                size_t size);

/* Seals as the fields "key" and "blob". */
void wire_put_seal(json_t *message, const struct seal *seal);
int wire_seal(const json_t *message, struct seal *out, struct err *err);

#endif
