/*
 * The commands `account lock` and `account unlock`: who may not log in, or not
 * submit mail. Mail for him is delivered all the same.
 */
#include "account/command_parts.h"

#include <string.h>

#include "account/wire.h"

struct which {
    bool login, submission;
};

static int take_which(const json_t *args, bool is_lock, struct which *out,
                      struct err *err)
{
    bool is_all = wire_bool(args, "all");

    out->login = is_all || wire_bool(args, "login");
    out->submission = is_all || wire_bool(args, "submission");
    if (out->login || out->submission)
        return 0;
    if (is_lock)
        return err_set(err, ERR_SETUP,
                       "what is to be locked? --login, --submission or --all");
    out->login = out->submission = true;
    return 0;
}

static int need_account(struct command *c, const json_t *args,
                        struct account *a, struct err *err)
{
    const char *address = command_need_text(args, "address", err);

    return address ? command_need_account(c, address, a, err) : -1;
}

/* Store the row; local hears of it after the commit, and until it has nobody is
   sent there. */
static int store(struct command *c, struct account *a, const char *event,
                 json_t *result, struct err *err)
{
    const char *at = strrchr(a->address, '@');

    if (a->route == ROUTE_LOCAL)
        a->provisioned_epoch = ACCOUNT_REMINDED;
    if (command_store(c, a, err) == -1 ||
        command_audit(c, a->id, event, a->address, err) == -1)
        return -1;
    c->changed_account = a->id;
    json_object_update_new(result, command_account_json(a, at ? at + 1 : ""));
    return json_object_update_new(
        result, json_pack("{s:b,s:b}", "login_locked", a->is_login_locked,
                          "submission_locked", a->is_submission_locked));
}

int command_account_lock(struct command *c, const json_t *args, json_t *result,
                         struct err *err)
{
    struct which which;
    struct account a;

    if (take_which(args, true, &which, err) == -1 ||
        need_account(c, args, &a, err) == -1)
        return -1;
    a.is_login_locked |= which.login;
    a.is_submission_locked |= which.submission;
    c->kick_service = which.login && which.submission ? "all"
                      : which.login                   ? "login"
                                                      : "submission";
    return store(c, &a, "account lock", result, err);
}

int command_account_unlock(struct command *c, const json_t *args,
                           json_t *result, struct err *err)
{
    struct which which;
    struct account a;

    if (take_which(args, false, &which, err) == -1 ||
        need_account(c, args, &a, err) == -1)
        return -1;
    a.is_login_locked &= !which.login;
    a.is_submission_locked &= !which.submission;
    return store(c, &a, "account unlock", result, err);
}
