# IP Floater: what can be done with a clone. The work is in scripts/.

PREFIX  ?= /usr
DESTDIR ?=
CARGO   ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
TARGET  := $(or $(CARGO_TARGET_DIR),target)
# `dev` is quicker to build; cargo calls its directory debug.
PROFILE ?= release
built   := $(TARGET)/$(PROFILE:dev=debug)

# Debian's places. Unit, bus files and configuration are looked for in fixed
# ones; PREFIX moves the rest.
sbin    := $(DESTDIR)$(PREFIX)/sbin
bin     := $(DESTDIR)$(PREFIX)/bin
man     := $(DESTDIR)$(PREFIX)/share/man
doc     := $(DESTDIR)$(PREFIX)/share/doc/ipfloater
share   := $(DESTDIR)$(PREFIX)/share/ipfloater
dbus    := $(DESTDIR)/usr/share/dbus-1
polkit  := $(DESTDIR)/usr/share/polkit-1
lib     := $(DESTDIR)/usr/lib
units   := $(lib)/systemd/system
etc     := $(DESTDIR)/etc
# Debian's zsh looks for those of packages elsewhere.
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/site-functions
bashdir := $(DESTDIR)$(PREFIX)/share/bash-completion/completions
zshdir  := $(DESTDIR)$(ZSH_COMPLETIONS)
fishdir := $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d

.PHONY: help build demo test lint bench install deb clean

help:
	@echo 'make build     the programs, in $(built)'
	@echo 'make demo      a router in network namespaces, shown step by step (root)'
	@echo 'make test      all tests, those with real packets included (root)'
	@echo 'make lint      formatting, lints, shell scripts, manual pages, licences'
	@echo 'make bench     the benchmarks (root, a quiet machine)'
	@echo 'make install   into DESTDIR=$(DESTDIR), PREFIX=$(PREFIX)'
	@echo 'make deb       a Debian package, for Debian 12 and newer'
	@echo 'make clean     removes what the others made in this directory'

build:
	scripts/install-needs.sh build
	$(CARGO) build --locked --profile $(PROFILE) --bins

demo:
	scripts/demo.sh

test:
	scripts/test.sh

lint:
	scripts/lint.sh

bench:
	scripts/install-needs.sh build demo
	$(CARGO) bench --locked

install: build
	install -D -m 755 $(built)/ipfloaterd $(sbin)/ipfloaterd
	install -D -m 755 $(built)/ipfloater-remote $(sbin)/ipfloater-remote
	install -D -m 755 $(built)/ipfloater $(bin)/ipfloater
	install -D -m 644 -t $(units) systemd/*.service systemd/*.socket systemd/*.timer
	sed -i 's|/usr/\(s\?bin/ipfloater\)|$(PREFIX)/\1|' $(units)/*.service
	install -D -m 644 -t $(lib)/systemd/system-preset systemd/system-preset/*.preset
	install -D -m 644 -t $(lib)/sysctl.d systemd/sysctl.d/*.conf
	install -D -m 644 -t $(lib)/sysusers.d systemd/sysusers.d/*.conf
	install -D -m 644 -t $(lib)/tmpfiles.d systemd/tmpfiles.d/*.conf
	install -D -m 644 -t $(dbus)/system.d dbus/org.ipfloater.conf
	install -D -m 644 -t $(dbus)/system-services dbus/org.ipfloater.service
	install -D -m 644 -t $(dbus)/interfaces interfaces/org.ipfloater.*.xml
	install -D -m 644 -t $(share) interfaces/org.ipfloater.varlink interfaces/ipfloater.schema.json
	$(if $(wildcard polkit/*.policy),install -D -m 644 -t $(polkit)/actions polkit/*.policy)
	install -D -m 644 -t $(polkit)/rules.d polkit/rules.d/*.rules
	install -D -m 644 -t $(etc)/default etc/default/ipfloaterd.conf
	install -D -m 644 -t $(man)/man1 docs/man/*.1
	install -D -m 644 -t $(man)/man5 docs/man/*.5
	install -D -m 644 -t $(man)/man8 docs/man/*.8
	install -D -m 644 -t $(doc) LICENSE-*
	scripts/install-pages.sh $(doc) $(PREFIX)
	install -D -m 644 -t $(doc)/examples polkit/*.rules
	install -D -m 644 -t $(doc)/examples/polkit examples/polkit/*.rules
	install -D -m 644 -t $(doc)/examples/prometheus examples/prometheus/*.yml
	install -D -m 755 -t $(doc)/examples/python examples/python/*.py
	install -D -m 755 -t $(doc)/examples/shell examples/shell/*.sh
	install -D -m 644 -t $(doc)/examples/systemd examples/systemd/*.conf
	mkdir -p $(bashdir) $(zshdir) $(fishdir)
	$(built)/ipfloater completion bash >$(bashdir)/ipfloater
	$(built)/ipfloater completion zsh >$(zshdir)/_ipfloater
	$(built)/ipfloater completion fish >$(fishdir)/ipfloater.fish

deb:
	scripts/deb.sh

clean:
	$(CARGO) clean
	rm -rf .cache
