/*
 * Which mailbox of legacy an account was copied from: INBOX's UIDVALIDITY and
 * the beginning of its oldest message's digest, "1700000000-9f86d081884c7d65"
 * ("1700000000-": INBOX is empty). Pure.
 */
#ifndef ACCOUNT_MAILBOX_ID_H
#define ACCOUNT_MAILBOX_ID_H

#include <stdbool.h>
#include <stdint.h>

#define MAILBOX_ID_SIZE        32
#define MAILBOX_ID_DIGEST_SIZE 8

/* What `account accept` and accounts.question call the one question there is:
   has the address been given to somebody else? */
#define MAILBOX_QUESTION "identity"

/* digest: MAILBOX_ID_DIGEST_SIZE bytes; NULL: there is no message. */
void mailbox_id_format(uint32_t uidvalidity, const uint8_t *digest,
                       char out[MAILBOX_ID_SIZE]);
/* INBOX's UIDVALIDITY; 0 if the id is not known. */
uint32_t mailbox_id_uidvalidity(const char *id);
/* The mailbox that was met is the one an operator has accepted: the same
   UIDVALIDITY, and the same oldest message unless INBOX was empty then. */
bool mailbox_id_is_accepted(const char *accepted, const char *met);

#endif
