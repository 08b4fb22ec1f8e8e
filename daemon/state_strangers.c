/*
 * Recipients that legacy takes mail for and that are no account of ours, as the
 * smtp processes count them. Nothing depends on these numbers but the list that
 * an administrator asks for: without room on the disk they are let go.
 */
#include "daemon/state.h"

#include <stdio.h>
#include <string.h>

#include "account/username.h"
#include "account/wire.h"
#include "base/clock.h"
#include "db/strangers.h"

#define ADDRESSES_MAX 1000 /* of one message */

static void count(struct state *s, const char *address, int64_t mails,
                  int64_t now)
{
    struct stranger noted = {.mails = mails, .first_at = now, .last_at = now};
    struct username name;
    struct domain domain;
    struct err err;
    int found;

    if (mails <= 0 ||
        username_parse(address, strlen(address), &name, &err) == -1)
        return;
    state_must(found = domain_find(s->db, name.domain, &domain, &err), &err);
    if (!found)
        return;
    memcpy(noted.address, name.address, sizeof(noted.address));
    state_must(stranger_note(s->db, domain.id, &noted, STRANGERS_MAX, &err),
               &err);
}

void state_strangers_count(struct state *s, struct state_peer *peer,
                           const json_t *message)
{
    json_t *addresses = json_object_get(message, "addresses");
    int64_t now = clock_unix_ms();
    const char *address;
    const json_t *mails;
    int room = ADDRESSES_MAX;

    if (strcmp(peer->role, "smtp") != 0)
        return;
    if (!s->is_full) {
        state_write(s);
        json_object_foreach(addresses, address, mails)
        {
            if (room-- == 0)
                break;
            count(s, address, json_integer_value(mails), now);
        }
    }
    state_send(s, peer, json_pack("{s:s}", "m", "counted"));
}
