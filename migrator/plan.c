#include "migrator/plan.h"

enum plan_way plan_folder(const struct plan_folder *f)
{
    bool has_known_modseq = f->known_modseq != 0 && f->modseq != 0;

    if (f->uidvalidity == 0)
        return PLAN_REFUSE;
    if (f->known_uidvalidity == 0)
        return PLAN_COMPARE;
    if (f->known_uidvalidity != f->uidvalidity)
        return PLAN_RENEW;
    if (!f->is_complete || f->must_check)
        return PLAN_COMPARE;
    /* a mailbox restored from a backup: nothing can be said of its changes */
    if (f->modseq < f->known_modseq ||
        (f->uidnext != 0 && f->uidnext < f->known_uidnext))
        return PLAN_COMPARE;
    if (has_known_modseq && f->modseq == f->known_modseq && f->has_messages &&
        f->messages == f->known_messages && f->uidnext != 0 &&
        f->uidnext == f->known_uidnext)
        return PLAN_SKIP;
    if (has_known_modseq && f->has_condstore && f->has_qresync &&
        f->uidnext != 0)
        return PLAN_CHANGES;
    return PLAN_COMPARE;
}

void plan_compare(const uint32_t *there, size_t there_count,
                  const uint32_t *here, size_t here_count,
                  struct plan_difference *out)
{
    size_t t = 0, h = 0;

    out->new_count = out->gone_count = 0;
    while (t < there_count || h < here_count) {
        if (h == here_count || (t < there_count && there[t] < here[h]))
            out->new_uids[out->new_count++] = there[t++];
        else if (t == there_count || here[h] < there[t])
            out->gone_uids[out->gone_count++] = here[h++];
        else {
            t++;
            h++;
        }
    }
}

bool plan_is_stranger(const struct plan_identity *identity)
{
    return identity->known > 0 && identity->changed == identity->known;
}

bool plan_is_same_mail(unsigned found, unsigned wanted)
{
    return wanted > 0 && found >= wanted - found;
}
