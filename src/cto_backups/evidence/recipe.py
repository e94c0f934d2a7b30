"""The README of an export: how to check it with stock tools alone, in any POSIX shell."""

README = r"""Evidence of backups
===================

evidence.csv    the restore tests and verifications of the period, in words; not signed by itself
records/        every record of each signer, from the first one on: NUMBER.json is what was signed
                (canonical JSON, RFC 8785), NUMBER.sig its Ed25519 signature (64 bytes)
keys/           the signers' public keys
heads.txt       a line for each signer: SHA-256 of its public key, number of its last record, digest of that
scope.json      which period and which source evidence.csv speaks of
SHA256SUMS      the digest of each file; of a record it is the digest that the next record names

All records are here, not only those of the period: each names the digest of the one before it, so one that was
left out breaks the chain. Recovery points of databases have sampled rows in clear.

Whoever packed this could have cut off the newest records, or signed other ones with
another key. That shows only against a heads.txt that you did not get with this file: from the installation itself
(cto.backups evidence export prints it), from another vault, or from an earlier export, whose last records must be here.

Check it
--------

You need a shell, coreutils and OpenSSL 3. Unpack this into an empty folder of its own and paste these lines there.
Before, put the lines that you got another way into a file, and name it: export HEADS=/path/to/heads.txt

    (
    export LC_ALL=C
    heads=${HEADS:-heads.txt}; bad=0; signers=0
    broken() { echo "BROKEN: $*"; bad=1; }
    sha256sum --quiet --strict -c SHA256SUMS || broken "files are not what SHA256SUMS says"
    while read -r fingerprint last head; do
      signer=$(printf %.16s "$fingerprint"); key=keys/$signer.pem; n=0; prev=null; signers=$((signers + 1))
      found=$(openssl pkey -pubin -in "$key" -outform DER | tail -c 32 | sha256sum | cut -c 1-64)
      [ "$found" = "$fingerprint" ] || broken "$key is not the key $fingerprint"
      end=missing
      while record=records/$signer/$(printf %08d $((n + 1))); [ -f "$record.json" ]; do
        n=$((n + 1))
        openssl pkeyutl -verify -rawin -pubin -inkey "$key" -in "$record.json" -sigfile "$record.sig" >/dev/null 2>&1 \
          || broken "$record is not what was signed with this key"
        end_of_body="\"previous\":$prev,\"sequence\":$n,\"signer\":\"$signer\",\"written_at\":\""
        case $(tail -c 300 "$record.json") in
          *",$end_of_body"???????????????????????????'"}') ;;
          *) broken "$record does not follow the record before it" ;;
        esac
        digest=$(sha256sum < "$record.json" | cut -c 1-64); prev="\"$digest\""
        [ "$n" -ne "$last" ] || end=$digest
      done
      [ "$end" = "$head" ] || broken "record $last of $signer is missing, or another one than $heads says"
      [ "$(ls "records/$signer" | wc -l)" -eq $((2 * n)) ] || broken "records of $signer after number $n, with a gap"
      echo "signer $fingerprint: $n records"
    done < "$heads"
    [ "$(ls records | wc -l)" -eq "$signers" ] || broken "there are records of signers that $heads does not have"
    [ "$signers" -gt 0 ] || broken "no signer"
    [ "$bad" -eq 0 ] && echo "Every record is there, in order, as it was signed."
    exit "$bad"
    )

What failed, straight from what was signed, without believing evidence.csv:

    start='^\{"format":1,"kind":"evidence","payload":\{"finished_at":"[^"]*","id":"[^"]*","kind":"[a-z_]*"'
    grep -rlE "$start"',"passed":false' records || echo "No restore test and no verification failed."

With cto.backups itself, `cto.backups evidence verify FILE.zip --heads heads.txt` also compares evidence.csv with the
records.
"""
