#include "account/mailbox_id.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mailbox_id_format(uint32_t uidvalidity, const uint8_t *digest,
                       char out[MAILBOX_ID_SIZE])
{
    int used = snprintf(out, MAILBOX_ID_SIZE, "%" PRIu32 "-", uidvalidity);

    for (int i = 0; digest != NULL && i < MAILBOX_ID_DIGEST_SIZE; i++)
        used += snprintf(out + used, (size_t)(MAILBOX_ID_SIZE - used), "%02x",
                         digest[i]);
}

uint32_t mailbox_id_uidvalidity(const char *id)
{
    return (uint32_t)strtoul(id, NULL, 10);
}

bool mailbox_id_is_accepted(const char *accepted, const char *met)
{
    const char *oldest = strchr(accepted, '-'), *oldest_met = strchr(met, '-');

    if (oldest == NULL || oldest_met == NULL ||
        mailbox_id_uidvalidity(accepted) != mailbox_id_uidvalidity(met))
        return false;
    return oldest[1] == '\0' || strcmp(oldest, oldest_met) == 0;
}
