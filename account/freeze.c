#include "account/freeze.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "base/mem.h"
#include "proto/mail_url.h"

static bool is_host_of(const char *host, const char *text)
{
    struct mail_url url;
    struct err err;

    return *text && mail_url_parse(text, &url, &err) == 0 &&
           strcasecmp(url.host, host) == 0;
}

bool freeze_covers(const struct freeze *f, const struct domain *d)
{
    switch (f->kind) {
    case FREEZE_ALL: return true;
    case FREEZE_DOMAIN: return strcmp(f->name, d->name) == 0;
    case FREEZE_HOST:
        return is_host_of(f->name, d->imap_url) ||
               is_host_of(f->name, d->pop3_url) ||
               is_host_of(f->name, d->smtp_url);
    case FREEZE_KIND_COUNT: break;
    }
    return false;
}

/* --- all of them, and each domain */

struct freeze_set {
    struct freeze *all; /* owned */
    size_t count;
};

static int collect_freeze(void *ctx, const struct freeze *f)
{
    struct freeze_set *set = ctx;

    set->all = mem_grow(set->all, (set->count + 1) * sizeof(*set->all));
    set->all[set->count++] = *f;
    return 0;
}

static const struct freeze *first_of(const struct freeze_set *set,
                                     const struct domain *d)
{
    for (size_t i = 0; i < set->count; i++)
        if (freeze_covers(&set->all[i], d))
            return &set->all[i];
    return NULL;
}

struct change {
    const struct freeze_set *set;
    int64_t *ids; /* owned: of the domains to be changed */
    size_t count;
};

static int note_change(void *ctx, const struct domain *d)
{
    struct change *c = ctx;

    if ((first_of(c->set, d) != NULL) == d->is_frozen)
        return 0;
    if ((c->count & (c->count - 1)) == 0)
        c->ids =
            mem_grow(c->ids, (c->count ? c->count * 2 : 1) * sizeof(*c->ids));
    /* its sign says which way */
    c->ids[c->count++] = d->is_frozen ? -d->id : d->id;
    return 0;
}

int freeze_refresh(struct db *db, struct err *err)
{
    struct freeze_set set = {NULL, 0};
    struct change change = {&set, NULL, 0};
    int rc = freeze_each(db, collect_freeze, &set, err);

    if (rc == 0)
        rc = domain_each(db, note_change, &change, err);
    for (size_t i = 0; rc == 0 && i < change.count; i++)
        rc =
            domain_set_frozen(db, llabs(change.ids[i]), change.ids[i] > 0, err);
    free(change.ids);
    free(set.all);
    return rc;
}

int freeze_of_domain(struct db *db, const struct domain *d, struct freeze *out,
                     struct err *err)
{
    struct freeze_set set = {NULL, 0};
    const struct freeze *first;
    int rc = freeze_each(db, collect_freeze, &set, err);

    first = rc == 0 ? first_of(&set, d) : NULL;
    if (first) {
        *out = *first;
        rc = 1;
    }
    free(set.all);
    return rc;
}

/* --- in words */

struct listing {
    json_t *list;
    const struct domain *domain; /* NULL: of all */
};

static int append_json(void *ctx, const struct freeze *f)
{
    const struct listing *l = ctx;

    if (l->domain && !freeze_covers(f, l->domain))
        return 0;
    json_array_append_new(
        l->list,
        json_pack("{s:s,s:o,s:I,s:s,s:o}", "kind", freeze_kind_name(f->kind),
                  "name", *f->name ? json_string(f->name) : json_null(),
                  "since", (json_int_t)f->since, "by", f->actor, "reason",
                  *f->reason ? json_string(f->reason) : json_null()));
    return 0;
}

json_t *freeze_list_json(struct db *db, const struct domain *d, struct err *err)
{
    struct listing listing = {json_array(), d};

    if (freeze_each(db, append_json, &listing, err) == 0)
        return listing.list;
    json_decref(listing.list);
    return NULL;
}

int freeze_refuse(struct db *db, const struct domain *d, struct err *err)
{
    struct freeze f;
    struct tm utc;
    char since[32];
    time_t seconds;
    int found = d->is_frozen ? freeze_of_domain(db, d, &f, err) : 0;

    if (found != 1)
        return found;
    seconds = (time_t)(f.since / 1000);
    gmtime_r(&seconds, &utc);
    strftime(since, sizeof(since), "%Y-%m-%d %H:%M:%S UTC", &utc);
    return err_set(
        err, ERR_SETUP, "%s is frozen (%s%s%s) since %s by %s%s%s", d->name,
        f.kind == FREEZE_ALL ? "everything" : freeze_kind_name(f.kind),
        *f.name ? " " : "", f.name, since, f.actor, *f.reason ? ": " : "",
        f.reason);
}
