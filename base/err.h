/*
 * Errors named by their remedy. A function that can fail returns 0 or -1 and
 * takes a struct err as its last argument; the text is for our log and the
 * administrator, never for a mail client.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

enum err_kind {
    ERR_NONE,
    ERR_RETRY,  /* network, peer or a full disk: same work again, later */
    ERR_DENIED, /* credentials refused: tell the user, never retry */
    ERR_ITEM,   /* this one message is unusable: record it, go on */
    ERR_PEER,   /* peer broke the protocol: drop the connection, then retry */
    ERR_SETUP,  /* our settings, disk or database: an operator must act */
    ERR_COUNT
};

struct err {
    enum err_kind kind;
    char text[256]; /* cut when longer, always terminated */
};

/* Fill *err (which may be NULL) and return -1, so that a caller can write
   `return err_set(err, ERR_RETRY, "...");`. */
int err_set(struct err *err, enum err_kind kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "prefix: " before the text that *err already has. Returns -1. */
int err_prefix(struct err *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* What a failed system call on our own files means: a disk that is full gets
   room again, everything else waits for an operator. */
enum err_kind err_kind_of_errno(int number);

/* Make *err say that nothing went wrong. */
void err_clear(struct err *err);

/* "retry", "denied", ... : the word used in logs, rows and JSON. */
const char *err_kind_name(enum err_kind kind);

/* The kind with that name; ERR_RETRY for a word we do not know. */
enum err_kind err_kind_named(const char *name);

#endif
