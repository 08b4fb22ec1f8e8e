#include "admin/api.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "account/command_fields.h"
#include "account/wire.h"

#define WAIT_MS   (10 * 1000)
#define VERIFY_MS (60 * 60 * 1000) /* it is answered when its worker ends */
#define JSON_TYPE "application/json"
#define ACCOUNTS  "/v1/accounts/"

static void answer_json(struct http_request *r, int status,
                        const json_t *document)
{
    char *text = json_dumps(document, JSON_INDENT(2));

    if (text)
        http_answer_take(&r, status, JSON_TYPE, text, strlen(text));
    else
        http_answer_take(&r, 500, "text/plain", "", 0);
    free(text);
}

static void refuse(struct http_request *r, int status, const char *kind,
                   const char *text)
{
    json_t *document = json_pack("{s:s,s:s}", "error", text, "kind", kind);

    answer_json(r, status, document);
    json_decref(document);
}

/* The status says what the error's kind does. */
static int status_of(const char *kind)
{
    switch (err_kind_named(kind ? kind : "")) {
    case ERR_RETRY: return 503;
    case ERR_DENIED: return 403;
    case ERR_SETUP:
    case ERR_ITEM: return 400;
    case ERR_NONE:
    case ERR_PEER:
    case ERR_COUNT: break;
    }
    return 500;
}

static void on_answer(void *ctx, const json_t *message)
{
    struct http_request *r = ctx;
    const json_t *answer = json_object_get(message, "answer");
    const char *kind = wire_text(answer, "kind");
    const char *error = wire_text(answer, "error");

    if (answer == NULL)
        refuse(r, 503, "retry", "the state process does not answer");
    else if (wire_bool(answer, "ok"))
        answer_json(r, 200, json_object_get(answer, "result"));
    else
        refuse(r, status_of(kind), kind ? kind : "setup", error ? error : "");
}

/* request is taken. */
static void run(struct state_link *link, struct http_request *r,
                json_t *request)
{
    const char *cmd = wire_text(request, "cmd");
    bool is_verify = cmd && strcmp(cmd, "verify") == 0;
    struct err err;

    if (command_fields_check(request, &err) == -1) {
        json_decref(request);
        refuse(r, 400, err_kind_name(err.kind), err.text);
        return;
    }
    state_link_ask(link,
                   json_pack("{s:s,s:I,s:o}", "m", "command", "uid",
                             (json_int_t)http_peer_uid(r), "request", request),
                   is_verify ? VERIFY_MS : WAIT_MS, on_answer, r);
}

static void put_query(json_t *request, const struct http_request *r,
                      const char *field)
{
    const char *text = http_query(r, field);
    json_t *value = text && *text ? json_string(text) : NULL;

    if (value)
        json_object_set_new(request, field, value);
}

/* False if it is no number. */
static bool put_number(json_t *request, const struct http_request *r,
                       const char *field)
{
    const char *text = http_query(r, field);
    long long value;
    char *end;

    if (!text || !*text)
        return true;
    errno = 0;
    value = strtoll(text, &end, 10);
    if (errno || *end)
        return false;
    json_object_set_new(request, field, json_integer(value));
    return true;
}

static void take_command(struct state_link *link, struct http_request *r)
{
    const char *type = http_header(r, "Content-Type");
    size_t length;
    const char *body = http_body(r, &length);
    json_t *request = json_loadb(body, length, JSON_REJECT_DUPLICATES, NULL);

    if (!type || strncmp(type, JSON_TYPE, strlen(JSON_TYPE)) != 0) {
        json_decref(request);
        refuse(r, 415, "setup", "Content-Type is not application/json");
        return;
    }
    if (!json_is_object(request) || !wire_text(request, "cmd")) {
        json_decref(request);
        refuse(r, 400, "setup", "no JSON object with \"cmd\"");
        return;
    }
    run(link, r, request);
}

static void take_account(struct state_link *link, struct http_request *r)
{
    json_t *request = json_pack("{s:s,s:s}", "cmd", "account show", "address",
                                http_path(r) + strlen(ACCOUNTS));

    if (request)
        run(link, r, request);
    else /* no UTF-8 */
        refuse(r, 400, "setup", "not an address");
}

static void take_list(struct state_link *link, struct http_request *r,
                      const char *cmd)
{
    json_t *request = json_pack("{s:s}", "cmd", cmd);

    put_query(request, r, "address");
    put_query(request, r, "domain");
    if (put_number(request, r, "since") && put_number(request, r, "limit")) {
        run(link, r, request);
        return;
    }
    json_decref(request);
    refuse(r, 400, "setup", "since and limit are numbers");
}

void api_take(struct state_link *link, struct http_request *r)
{
    const char *path = http_path(r);

    if (strcmp(path, "/v1/command") == 0) {
        if (http_is_post(r))
            take_command(link, r);
        else
            refuse(r, 405, "setup", "POST is the way");
    } else if (http_is_post(r)) {
        refuse(r, 405, "setup", "GET is the way");
    } else if (strncmp(path, ACCOUNTS, strlen(ACCOUNTS)) == 0) {
        take_account(link, r);
    } else if (strcmp(path, "/v1/status") == 0) {
        take_list(link, r, "status");
    } else if (strcmp(path, "/v1/audit") == 0) {
        take_list(link, r, "audit");
    } else {
        refuse(r, 404, "setup", "not here");
    }
}
