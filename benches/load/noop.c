/*
 * A filter that does nothing, on Sendmail's libmilter: every callback is there and says "continue", as a
 * filter has it that has not been tuned. Usage: noop SOCKET
 */
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <string.h>

static sfsistat on_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *address)
{
    (void) ctx, (void) host, (void) address;
    return SMFIS_CONTINUE;
}

static sfsistat on_text(SMFICTX *ctx, char *text)
{
    (void) ctx, (void) text;
    return SMFIS_CONTINUE;
}

static sfsistat on_address(SMFICTX *ctx, char **arguments)
{
    (void) ctx, (void) arguments;
    return SMFIS_CONTINUE;
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
    (void) ctx, (void) name, (void) value;
    return SMFIS_CONTINUE;
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *bytes, size_t length)
{
    (void) ctx, (void) bytes, (void) length;
    return SMFIS_CONTINUE;
}

static sfsistat on_event(SMFICTX *ctx)
{
    (void) ctx;
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    char connection[4096];
    struct smfiDesc filter;

    if (argc != 2 || snprintf(connection, sizeof connection, "unix:%s", argv[1]) >= (int) sizeof connection) {
        fprintf(stderr, "usage: noop SOCKET\n");
        return 64;
    }
    memset(&filter, 0, sizeof filter);
    filter.xxfi_name = "noop";
    filter.xxfi_version = SMFI_VERSION;
    filter.xxfi_connect = on_connect;
    filter.xxfi_helo = on_text;
    filter.xxfi_envfrom = on_address;
    filter.xxfi_envrcpt = on_address;
    filter.xxfi_data = on_event;
    filter.xxfi_header = on_header;
    filter.xxfi_eoh = on_event;
    filter.xxfi_body = on_body;
    filter.xxfi_eom = on_event;
    filter.xxfi_abort = on_event;
    filter.xxfi_close = on_event;
    if (smfi_setconn(connection) == MI_FAILURE || smfi_register(filter) == MI_FAILURE)
        return 70;
    return smfi_main() == MI_SUCCESS ? 0 : 70;
}
