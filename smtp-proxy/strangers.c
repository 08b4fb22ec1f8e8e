#include "smtp-proxy/strangers.h"

#include <jansson.h>

#include "base/log.h"
#include "base/mem.h"

#include <stdlib.h>

#define WAITING_MAX 500   /* addresses */
#define TELL_MS     1000  /* after the first of a batch */
#define ANSWER_MS   30000 /* then what was told is thought lost */

struct strangers {
    struct loop *loop;
    struct directory *directory;
    struct timer *timer;
    json_t *waiting; /* address -> mails; owned */
    bool is_told;    /* state has not said yet that it has the last batch */
    int64_t told_ms;
    bool is_overfull; /* and the log says so */
};

static void tell(void *ctx)
{
    struct strangers *s = ctx;
    bool is_lost = loop_now_ms(s->loop) - s->told_ms >= ANSWER_MS;

    if (json_object_size(s->waiting) == 0)
        return;
    if ((s->is_told && !is_lost) || s->directory == NULL ||
        !directory_strangers(s->directory, s->waiting)) {
        timer_start(s->timer, TELL_MS);
        return;
    }
    json_decref(s->waiting);
    s->waiting = json_object();
    s->is_told = true;
    s->is_overfull = false;
    s->told_ms = loop_now_ms(s->loop);
}

struct strangers *strangers_new(struct loop *loop, struct directory *directory)
{
    struct strangers *s = mem_alloc(sizeof(*s));

    s->loop = loop;
    s->directory = directory;
    s->waiting = json_object();
    s->timer = timer_new(loop, tell, s);
    return s;
}

void strangers_free(struct strangers **strangers)
{
    struct strangers *s = *strangers;

    *strangers = NULL;
    if (s == NULL)
        return;
    timer_free(&s->timer);
    json_decref(s->waiting);
    free(s);
}

bool strangers_note(struct strangers *s, const char *address)
{
    json_t *mails = json_object_get(s->waiting, address);

    if (mails != NULL) {
        json_integer_set(mails, json_integer_value(mails) + 1);
        return true;
    }
    if (json_object_size(s->waiting) >= WAITING_MAX) {
        if (!s->is_overfull)
            log_warn("smtp strangers waiting=%d: more are not counted until "
                     "the state process takes these",
                     WAITING_MAX);
        s->is_overfull = true;
        return false;
    }
    /* an address that is no UTF-8 is no name of a JSON field */
    if (json_object_set_new(s->waiting, address, json_integer(1)) == -1)
        return false;
    if (!timer_is_running(s->timer))
        timer_start(s->timer, TELL_MS);
    return true;
}

void strangers_counted(struct strangers *s)
{
    s->is_told = false;
}
