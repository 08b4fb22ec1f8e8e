#include "migrator/progress.h"

#include <poll.h>
#include <stdio.h>

#include "base/channel.h"
#include "base/clock.h"

#define TELL_EVERY_MS 200

static int send_message(struct progress *progress, json_t *message)
{
    int rc = 0;

    json_object_set_new(message, "job", json_integer(progress->job));
    if (progress->fd != -1) {
        rc = channel_send_blocking(progress->fd, message, NULL);
    } else {
        json_dumpf(message, stdout, JSON_COMPACT);
        fputc('\n', stdout);
        rc = fflush(stdout) == 0 ? 0 : -1;
    }
    json_decref(message);
    return rc;
}

int progress_tell(struct progress *progress,
                  const struct migration_report *so_far)
{
    int64_t now = clock_unix_ms();
    json_t *message;

    if (now - progress->told_at_ms < TELL_EVERY_MS &&
        now >= progress->told_at_ms)
        return 0;
    progress->told_at_ms = now;
    message = migration_report_encode(so_far);
    json_object_del(message, "details");
    json_object_set_new(message, "m", json_string("progress"));
    return send_message(progress, message);
}

void progress_done(struct progress *progress, const struct err *err,
                   const struct migration_report *report)
{
    json_t *message = migration_report_encode(report);
    json_t *text = json_string(err->kind == ERR_NONE ? "" : err->text);

    json_object_set_new(message, "m", json_string("done"));
    json_object_set_new(message, "kind", json_string(err_kind_name(err->kind)));
    json_object_set_new(message, "text",
                        text != NULL ? text : json_string("unprintable"));
    send_message(progress, message);
}
