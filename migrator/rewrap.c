#include "migrator/rewrap.h"

#include <string.h>

#include "account/wire.h"
#include "base/log.h"

static json_t *rewrap_one(const struct keyring *ring, const json_t *item)
{
    const char *address = wire_text(item, "address");
    json_t *answer = json_object();
    struct seal seal;
    struct err err;

    json_object_set(answer, "place", json_object_get(item, "place"));
    json_object_set(answer, "id", json_object_get(item, "id"));
    json_object_set(answer, "was", json_object_get(item, "key"));
    if (!address || wire_seal(item, &seal, &err) == -1 ||
        keyring_rewrap(ring, address, &seal, &err) == -1) {
        log_error("seal of %s is lost: %s", address ? log_safe(address) : "?",
                  err.text);
        json_object_set_new(answer, "lost", json_true());
        return answer;
    }
    wire_put_bytes(answer, "key", seal.wrapped_key, sizeof(seal.wrapped_key));
    return answer;
}

bool rewrap_is_newest(const struct keyring *ring, const json_t *message)
{
    uint8_t newest[SEAL_ID_SIZE], own[SEAL_ID_SIZE];

    keyring_id(ring, 0, own);
    return wire_bytes(message, "newest", newest, sizeof(newest)) ==
               SEAL_ID_SIZE &&
           memcmp(newest, own, sizeof(own)) == 0;
}

json_t *rewrap_answer(const struct keyring *ring, const json_t *message)
{
    json_t *list = json_array();
    const json_t *item;
    size_t i;

    json_array_foreach(json_object_get(message, "seals"), i, item)
        json_array_append_new(list, rewrap_one(ring, item));
    return json_pack("{s:s,s:o,s:O?}", "m", "rewrapped", "seals", list,
                     "question", json_object_get(message, "question"));
}
