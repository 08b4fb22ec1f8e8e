#include "admin/health.h"

#include "account/wire.h"

bool health_judge(const json_t *answer, struct buf *out)
{
    const json_t *facts = json_object_get(answer, "facts");
    const json_t *down = json_object_get(facts, "hosts_down");
    int64_t refused = wire_int(facts, "refused", 0);
    const json_t *host;
    size_t i, before = out->used;

    if (answer == NULL) {
        buf_printf(out, "the state process does not answer\n");
        return false;
    }
    if (wire_bool(facts, "is_full"))
        buf_printf(out, "no room on the disk of state_dir: users are served, "
                        "nobody is taken in, copied or flipped\n");
    if (!wire_bool(facts, "peers_known"))
        buf_printf(out, "not every process is known yet: nothing flips\n");
    if (refused > 0)
        buf_printf(out,
                   "%lld accounts are refused: the control db is older than "
                   "what was seen of them\n",
                   (long long)refused);
    json_array_foreach(down, i, host)
    {
        if (json_is_string(host))
            buf_printf(out,
                       "the old server %s: its jobs fail, one after the "
                       "other\n",
                       json_string_value(host));
    }
    return out->used == before;
}
