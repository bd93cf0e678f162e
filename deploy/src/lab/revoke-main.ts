/**
 * What a lab's controller calls to have the storage shut a host out (VPE_HA_REVOKE_COMMAND, by the script `revoke` of the lab):
 * `revoke-main.ts <checkout> <lab> <pool name> <pool uuid> <host name> ...`. Exit code 0 says that it is done, 2 that the pool is
 * not the lab's shared storage.
 */
import { Lab } from './lab.ts'
import { names } from './lab-catalogue.ts'

const [root = '', path = '', pool = '', , host = ''] = process.argv.slice(2)
if (pool !== names.sharedPool) process.exit(2)
await new Lab(root, path).revoke(host)
