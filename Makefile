# mailhaul: build, test, install. `make help` lists the targets.
#
# MODE=release (default) | debug | asan | fuzz     builds into build/MODE
# Layers, lowest first: a file may include only its own layer and those before.

MODE    ?= release
O       ?= build/$(MODE)
PREFIX  ?= /usr/local
DESTDIR ?=

LAYERS := base proto db account login-proxy smtp-proxy migrator admin daemon cli
MAINS  := daemon/main.c migrator/main.c cli/main.c

PKGS   := libevent_core libevent_extra libcares libcyaml jansson sqlite3 openssl
CFLAGS_release := -O2 -g -D_FORTIFY_SOURCE=2
CFLAGS_debug   := -O0 -g3
CFLAGS_fuzz    := -O1 -g -fsanitize=fuzzer-no-link,address,undefined \
                  -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS_asan    := -O1 -g -fsanitize=address,undefined \
                  -fno-sanitize-recover=undefined -fno-omit-frame-pointer
CFLAGS  += -std=c11 -D_GNU_SOURCE -I. $(CFLAGS_$(MODE)) \
           -Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wvla \
           -Wmissing-prototypes -Wwrite-strings -Wformat=2 \
           -fstack-protector-strong $(shell pkg-config --cflags $(PKGS))
# warnings are gcc's; clang has others
CFLAGS  += $(if $(filter fuzz,$(MODE)),-w)
LDFLAGS += $(filter -fsanitize=%,$(CFLAGS_$(MODE))) -Wl,-z,relro,-z,now
LDLIBS  += $(shell pkg-config --libs $(PKGS)) -lcrypt -lpthread
ETPAN   := $(shell pkg-config --libs libetpan 2>/dev/null || echo -letpan)

sources  = $(filter-out $(MAINS),$(sort $(wildcard $(1)/*.c)))
objects  = $(patsubst %.c,$(O)/%.o,$(call sources,$(1)))
# archives of a layer and of all below it, highest first (the linker's order)
upto     = $(strip $(call cut,$(1),$(LAYERS),))
cut      = $(if $(2),$(if $(filter $(1),$(firstword $(2))),\
             $(O)/$(1).a $(3),$(call cut,$(1),$(wordlist 2,99,$(2)),\
             $(O)/$(firstword $(2)).a $(3))))

PROGRAMS := $(O)/mailhauld $(O)/mailhaul-worker $(O)/mailhaul
TESTS    := $(patsubst tests/unit/%.c,$(O)/unit/%,\
              $(sort $(wildcard tests/unit/*_test.c)))

.PHONY: all help demo check unit dialog fuzz fuzzers lint bench install clean
all: $(PROGRAMS)

help:
	@echo 'make [MODE=release|debug|asan] all   programs in build/MODE'
	@echo 'make demo     scripts/demo: the main job as a story'
	@echo 'make check    scripts/check: every test'
	@echo 'make unit     unit tests of this MODE'
	@echo 'make dialog   conversations of single roles with fake peers'
	@echo 'make fuzz     each parser for SECONDS=60, by libFuzzer'
	@echo 'make lint     format, layers, doors, sizes, banned functions'
	@echo 'make bench    measure against peers; WORK=name for one'
	@echo 'make install  PREFIX=/usr/local DESTDIR='

demo:
	scripts/demo
check:
	scripts/check
lint: all
	scripts/lint
bench: all
	bench/run $(WORK)

$(O)/mailhauld: $(O)/daemon/main.o $(call upto,daemon)
$(O)/mailhaul-worker: $(O)/migrator/main.o $(call upto,migrator)
$(O)/mailhaul: $(O)/cli/main.o $(call upto,cli)
$(PROGRAMS):
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) \
	    -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(ETPAN) $(LDLIBS)

define layer
$(O)/$(1).a: $(call objects,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach l,$(LAYERS),$(eval $(call layer,$(l))))

$(O)/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC  $@"
	@$(CC) $(CFLAGS) -MMD -MP -c -o $@ $<

$(O)/db/control.o: db/schema.sql $(wildcard db/upgrade_*.sql)

# tests/unit/base_buf_test.c is linked with its layer (base) and those below;
# login_x_test with login-proxy, smtp_x_test with smtp-proxy.
layer_of = $(or $(filter $(firstword $(subst _, ,$(1)))%,$(LAYERS)),base)
.SECONDEXPANSION:
$(O)/unit/%: $(O)/tests/unit/%.o $$(call upto,$$(call layer_of,$$*))
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) \
	    -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
	    $(ETPAN) $(LDLIBS) -lcmocka

# fuzzers of parsers: by clang, each for SECONDS
SECONDS ?= 60
FUZZERS := $(patsubst tests/fuzz/%.c,$(O)/fuzz/%,\
             $(sort $(wildcard tests/fuzz/*_fuzz.c)))
$(O)/fuzz/%: $(O)/tests/fuzz/%.o $$(call upto,$$(call layer_of,$$*))
	@mkdir -p $(@D)
	$(CC) -fsanitize=fuzzer,address,undefined -o $@ $(filter %.o,$^) \
	    -Wl,--start-group $(filter %.a,$^) -Wl,--end-group \
	    $(ETPAN) $(LDLIBS)
fuzzers: $(FUZZERS)
fuzz:
	scripts/fuzz $(SECONDS)

# roles alone, for the dialogue tests
$(O)/fakes/smtp_role: $(O)/tests/fakes/smtp_role.o $(call upto,smtp-proxy)
	@mkdir -p $(@D)
	$(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) \
	    -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(LDLIBS)

dialog: $(O)/fakes/smtp_role
	SMTP_ROLE=$(abspath $<) /usr/bin/python3 -m pytest -q \
	    -p no:cacheprovider tests/dialog/smtp_*_test.py

unit: $(TESTS)
	@failed=0; for t in $(TESTS); do echo "== $$t"; $$t || failed=1; done; \
	    exit $$failed

install: all
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/sbin $(O)/mailhauld
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(O)/mailhaul
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/libexec/mailhaul \
	    $(O)/mailhaul-worker
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man1 docs/mailhaul.1
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/man/man8 docs/mailhauld.8
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/mailhaul \
	    docs/mailhaul.yaml.example docs/JSON.md

clean:
	rm -rf build

-include $(shell find $(O) -name '*.d' 2>/dev/null)
.SECONDARY:
