# IP Floater: what can be done with a clone. The work is in scripts/.

PREFIX  ?= /usr
DESTDIR ?=
CARGO   ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)
TARGET  := $(or $(CARGO_TARGET_DIR),target)

# Debian's places. Unit, bus files and configuration are looked for in fixed
# ones; PREFIX moves the rest.
sbin    := $(DESTDIR)$(PREFIX)/sbin
bin     := $(DESTDIR)$(PREFIX)/bin
man     := $(DESTDIR)$(PREFIX)/share/man
doc     := $(DESTDIR)$(PREFIX)/share/doc/ipfloater
share   := $(DESTDIR)$(PREFIX)/share/ipfloater
dbus    := $(DESTDIR)/usr/share/dbus-1
units   := $(DESTDIR)/usr/lib/systemd/system
etc     := $(DESTDIR)/etc

.PHONY: help build demo test lint bench install clean

help:
	@echo 'make build     release binaries, in $(TARGET)/release'
	@echo 'make demo      a router in network namespaces, shown step by step (root)'
	@echo 'make test      all tests, those with real packets included (root)'
	@echo 'make lint      formatting, lints, shell scripts, manual pages, licences'
	@echo 'make bench     the benchmarks (root, a quiet machine)'
	@echo 'make install   into DESTDIR=$(DESTDIR), PREFIX=$(PREFIX)'
	@echo 'make clean     removes what the others made in this directory'

build:
	scripts/install-needs.sh build
	$(CARGO) build --locked --release --bins

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
	install -D -m 755 $(TARGET)/release/ipfloaterd $(sbin)/ipfloaterd
	install -D -m 755 $(TARGET)/release/ipfloater $(bin)/ipfloater
	install -D -m 644 -t $(units) systemd/ipfloaterd.service
	sed -i 's|/usr/sbin/ipfloaterd|$(PREFIX)/sbin/ipfloaterd|' $(units)/ipfloaterd.service
	install -D -m 644 -t $(dbus)/system.d dbus/org.ipfloater.conf
	install -D -m 644 -t $(dbus)/system-services dbus/org.ipfloater.service
	install -D -m 644 -t $(dbus)/interfaces interfaces/org.ipfloater.*.xml
	install -D -m 644 -t $(share) interfaces/org.ipfloater.varlink
	install -D -m 644 -t $(etc)/default etc/default/ipfloaterd.conf
	install -D -m 644 -t $(man)/man1 docs/man/*.1
	install -D -m 644 -t $(man)/man5 docs/man/*.5
	install -D -m 644 -t $(man)/man8 docs/man/*.8
	install -D -m 644 -t $(doc) README.md ARCHITECTURE.md CHANGELOG.md SECURITY.md LICENSE-* docs/*.md

clean:
	$(CARGO) clean
	rm -rf .cache
