// The X.509 library wants the reflection polyfill to be there before it is loaded.

import 'reflect-metadata'

export * from '@peculiar/x509'
